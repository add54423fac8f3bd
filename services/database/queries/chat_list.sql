SELECT id, owner, model_id, created_at, updated_at, message_count, title, last_message
FROM chats
WHERE owner = $1 AND (updated_at, id) < ($2, $3)
ORDER BY updated_at DESC, id DESC
LIMIT $4
