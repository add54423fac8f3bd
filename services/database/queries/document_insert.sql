INSERT INTO documents (id, owner, path, content_type, size_bytes, asset_id, version, state, chunk_count, generation, job_id, created_at, updated_at, reason)
VALUES ($1, $2, $3, $4, $5, $6, 1, 1, 0, 0, $7, $8, $8, '')
ON CONFLICT (owner, path) DO NOTHING
