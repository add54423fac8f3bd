SELECT id, display_name, created_at
FROM users
WHERE id = ANY ($1::text[])
