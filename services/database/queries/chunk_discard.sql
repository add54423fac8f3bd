-- Drops the chunks of an upload that broke off.
DELETE FROM chunks
WHERE document_id = $1 AND generation = $2
