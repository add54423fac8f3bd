UPDATE chats
SET title = $3, updated_at = $4
WHERE id = $1 AND owner = $2
RETURNING id, owner, model_id, created_at, updated_at, message_count, title, last_message
