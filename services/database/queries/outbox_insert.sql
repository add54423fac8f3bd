INSERT INTO outbox (id, kind, owner, target, subject, type, payload, traceparent, created_at, due_at, attempts, last_error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '')
