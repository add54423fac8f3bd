UPDATE documents
SET state = 2, chunk_count = $2, generation = $3, updated_at = $4, reason = ''
WHERE id = $1
RETURNING id, owner, path, content_type, size_bytes, asset_id, version, state, chunk_count, generation, job_id, created_at, updated_at, reason
