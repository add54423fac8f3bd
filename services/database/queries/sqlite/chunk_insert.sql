-- $5 is an array of {h, t}: the headings and texts, in order.
INSERT INTO chunks (id, document_id, generation, ordinal, heading, text)
SELECT $1 + key, $2, $3, $4 + key, value ->> 'h', value ->> 't'
FROM json_each($5)
