INSERT INTO messages (chat_id, sequence, id, owner, role, created_at, job_id, idempotency_key, citations, content)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
