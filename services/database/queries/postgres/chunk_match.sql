-- Rank by words found, rare words first: ts_rank alone knows no inverse document frequency. Each chunk also holds its
-- owner as a word (in upper case, which no text does), so that the index finds this owner's chunks only. OFFSET 0 keeps
-- the planner from beginning anywhere but at that index.
WITH words AS MATERIALIZED (
    SELECT DISTINCT to_tsquery('english', word) AS query
    FROM unnest($2::text[]) AS word
),
found AS MATERIALIZED (
    SELECT c.id, c.rank, count(*) OVER (PARTITION BY w.query) AS holders
    FROM words w
    CROSS JOIN LATERAL (
        SELECT id, document_id, generation, ts_rank('{0.5, 0.5, 0.75, 1.0}', words, w.query, 1) AS rank
        FROM chunks
        WHERE words @@ (w.query && ('O' || encode(convert_to($1::text, 'UTF8'), 'hex'))::tsquery)
        OFFSET 0
    ) c
    JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
    WHERE numnode(w.query) > 0 AND d.owner = $1
)
SELECT
    id,
    sum(rank * ln(1 + greatest(
        (SELECT sum(chunk_count)::float8 FROM documents WHERE owner = $1) - holders, 0
    ) / (holders + 0.5::float8))) AS score
FROM found
GROUP BY id
ORDER BY score DESC, id
LIMIT $3
