SELECT c.id, -(c.embedding <#> $2::vector) AS score
FROM chunks c
JOIN documents d ON d.id = c.document_id AND d.generation = c.generation
WHERE c.owner = $1
ORDER BY c.embedding <#> $2::vector, c.id
LIMIT $3
