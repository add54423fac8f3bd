SELECT id, display_name, created_at
FROM users
WHERE id > $1
ORDER BY id
LIMIT $2
