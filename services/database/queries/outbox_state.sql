SELECT count(*) AS depth, min(created_at) AS oldest
FROM outbox
