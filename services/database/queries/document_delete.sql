DELETE FROM documents
WHERE id = $1 AND owner = $2
