DELETE FROM models
WHERE id = $1
