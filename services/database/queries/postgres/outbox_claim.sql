-- Claims what is due until $2, one relay at a time; a relay that died lets go of it then.
UPDATE outbox
SET due_at = $2, attempts = attempts + 1
WHERE id IN (
    SELECT id
    FROM outbox
    WHERE kind = $4 AND due_at <= $1
    ORDER BY due_at, id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, owner, target, subject, type, payload, traceparent, attempts
