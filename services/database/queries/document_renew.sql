UPDATE documents
SET content_type = $2, size_bytes = $3, asset_id = $4, version = $5, state = 1, job_id = $6, updated_at = $7, reason = ''
WHERE id = $1
RETURNING id, owner, path, content_type, size_bytes, asset_id, version, state, chunk_count, generation, job_id, created_at, updated_at, reason
