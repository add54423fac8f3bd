SELECT c.id, c.ordinal, c.heading, c.text, d.id AS document_id, d.path
FROM chunks c
JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
WHERE c.id IN (SELECT value FROM json_each($1)) AND d.owner = $2
