UPDATE notifications
SET read_at = $3
WHERE id IN (SELECT value FROM json_each($1)) AND owner = $2 AND read_at IS NULL
