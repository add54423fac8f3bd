UPDATE documents
SET state = 3, reason = $2, updated_at = $3
WHERE id = $1
RETURNING id, owner, path, content_type, size_bytes, asset_id, version, state, chunk_count, generation, job_id, created_at, updated_at, reason
