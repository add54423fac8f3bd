SELECT id, owner, path, content_type, size_bytes, asset_id, version, state, chunk_count, generation, job_id, created_at, updated_at, reason
FROM documents
WHERE owner = $1 AND path > $2
ORDER BY path
LIMIT $3
