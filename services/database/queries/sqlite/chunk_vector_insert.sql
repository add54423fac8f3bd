INSERT INTO chunk_vectors (owner, document_id, generation, first_chunk_id, embeddings)
VALUES ($1, $2, $3, $4, $5)
