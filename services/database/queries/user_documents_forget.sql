-- Every document of a user who is deleted leaves the cache; $1 makes the ids of the outbox rows unique.
INSERT INTO outbox (id, kind, owner, target, subject, type, payload, traceparent, created_at, due_at, attempts, last_error)
SELECT $1 || ':' || id, 1, owner, 'document', id, '', $3, '', $4, $4, 0, ''
FROM documents
WHERE owner = $2
