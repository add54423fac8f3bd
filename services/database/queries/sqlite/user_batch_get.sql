SELECT id, display_name, created_at
FROM users
WHERE id IN (SELECT value FROM json_each($1))
