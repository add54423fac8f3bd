DELETE FROM chunk_vectors
WHERE document_id = $1 AND generation <> $2
