UPDATE notifications
SET read_at = $3
WHERE id = ANY ($1::text[]) AND owner = $2 AND read_at IS NULL
