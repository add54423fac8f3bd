SELECT id, display_name, context_tokens, updated_at
FROM models
WHERE id = $1
