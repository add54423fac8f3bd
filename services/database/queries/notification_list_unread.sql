SELECT id, kind, subject_id, created_at, read_at, text
FROM notifications
WHERE owner = $1 AND (created_at, id) < ($2, $3) AND read_at IS NULL
ORDER BY created_at DESC, id DESC
LIMIT $4
