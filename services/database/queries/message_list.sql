-- A page holds at most $4 bytes and the message that goes beyond: an answer over gRPC must not grow without bound.
SELECT id, chat_id, sequence, role, created_at, job_id, citations, content
FROM (
    SELECT
        page.*,
        sum(octet_length(content) + octet_length(citations)) OVER (ORDER BY sequence DESC)
            - octet_length(content) - octet_length(citations) AS bytes_before
    FROM (
        SELECT *
        FROM messages
        WHERE chat_id = $1 AND sequence < $2
        ORDER BY sequence DESC
        LIMIT $3
    ) AS page
) AS counted
WHERE bytes_before < $4
ORDER BY sequence DESC
