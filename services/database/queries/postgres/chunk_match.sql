-- Rank by words found, rare words first: ts_rank alone knows no inverse document frequency.
WITH words AS (
    SELECT DISTINCT to_tsquery('english', word) AS query
    FROM unnest($2::text[]) AS word
    WHERE numnode(to_tsquery('english', word)) > 0
),
found AS (
    SELECT c.id, w.query, ts_rank('{0.5, 0.5, 0.75, 1.0}', c.words, w.query, 1) AS rank
    FROM words w
    JOIN chunks c ON c.words @@ w.query
    JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
    WHERE c.owner = $1
),
total AS (
    SELECT count(*)::float8 AS chunks
    FROM chunks
    WHERE owner = $1
),
weight AS (
    SELECT f.query, ln(1 + (t.chunks - count(*) + 0.5) / (count(*) + 0.5)) AS idf
    FROM found f, total t
    GROUP BY f.query, t.chunks
)
SELECT f.id, sum(f.rank * w.idf) AS score
FROM found f
JOIN weight w ON w.query = f.query
GROUP BY f.id
ORDER BY score DESC, f.id
LIMIT $3
