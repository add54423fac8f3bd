SELECT id, chat_id, sequence, role, created_at, job_id, citations, content
FROM messages
WHERE owner = $1 AND job_id = $2 AND role = 2
