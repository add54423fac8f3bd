DELETE FROM chats
WHERE id = $1 AND owner = $2
