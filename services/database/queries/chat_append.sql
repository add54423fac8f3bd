UPDATE chats
SET message_count = $2, updated_at = $3, last_message = $4, title = $5
WHERE id = $1
