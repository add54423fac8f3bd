INSERT INTO chats (id, owner, model_id, created_at, updated_at, message_count, idempotency_key, title, last_message)
VALUES ($1, $2, $3, $4, $4, 0, $5, $6, '')
ON CONFLICT DO NOTHING
