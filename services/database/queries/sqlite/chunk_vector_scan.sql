SELECT v.first_chunk_id, v.embeddings
FROM chunk_vectors v
JOIN documents d ON d.id = v.document_id AND d.generation = v.generation
WHERE v.owner = $1
