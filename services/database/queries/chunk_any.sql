SELECT 1 AS found
FROM chunks
LIMIT 1
