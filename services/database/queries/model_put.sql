INSERT INTO models (id, display_name, context_tokens, updated_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE
SET display_name = excluded.display_name, context_tokens = excluded.context_tokens, updated_at = excluded.updated_at
