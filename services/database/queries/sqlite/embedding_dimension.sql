SELECT value
FROM settings
WHERE name = 'embedding_dimension'
