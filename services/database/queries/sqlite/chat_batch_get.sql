SELECT id, owner, model_id, created_at, updated_at, message_count, title, last_message
FROM chats
WHERE id IN (SELECT value FROM json_each($1)) AND owner = $2
