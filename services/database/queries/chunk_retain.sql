-- Drops the chunks of a document that belong to another upload than the searchable one.
DELETE FROM chunks
WHERE document_id = $1 AND generation <> $2
