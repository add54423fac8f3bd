INSERT INTO notifications (id, owner, job_id, kind, subject_id, created_at, text)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (owner, job_id) DO NOTHING
