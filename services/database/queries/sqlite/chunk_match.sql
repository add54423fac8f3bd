-- Headings and paths weigh more than the text. The + keeps the planner from beginning anywhere but at the index.
SELECT c.id, -bm25(chunk_index, 1.0, 2.0, 1.5) AS score
FROM chunk_index
JOIN chunks c ON c.id = chunk_index.rowid
JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
WHERE chunk_index MATCH $2 AND +d.owner = $1
ORDER BY score DESC, c.id
LIMIT $3
