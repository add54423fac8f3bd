UPDATE settings
SET value = $1
WHERE name = 'embedding_dimension'
