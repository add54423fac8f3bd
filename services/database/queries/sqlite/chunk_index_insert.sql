-- $3 is the array that chunk_insert takes.
INSERT INTO chunk_index (rowid, text, heading, path)
SELECT $1 + key, value ->> 't', value ->> 'h', $2
FROM json_each($3)
