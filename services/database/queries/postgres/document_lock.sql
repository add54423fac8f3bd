SELECT id, owner, path, content_type, size_bytes, asset_id, version, state, chunk_count, generation, job_id, created_at, updated_at, reason
FROM documents
WHERE id = $1
FOR UPDATE
