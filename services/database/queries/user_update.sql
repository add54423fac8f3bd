UPDATE users
SET display_name = $2
WHERE id = $1
RETURNING id, display_name, created_at
