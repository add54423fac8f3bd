INSERT INTO users (id, display_name, created_at)
VALUES ($1, '', $2)
ON CONFLICT (id) DO NOTHING
