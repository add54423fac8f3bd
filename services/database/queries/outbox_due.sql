SELECT 1 AS found
FROM outbox
WHERE kind = $2 AND due_at <= $1
LIMIT 1
