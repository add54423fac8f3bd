SELECT count(*) AS chunks
FROM chunks
WHERE document_id = $1 AND generation = $2
