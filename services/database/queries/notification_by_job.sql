SELECT id, kind, subject_id, created_at, read_at, text
FROM notifications
WHERE owner = $1 AND job_id = $2
