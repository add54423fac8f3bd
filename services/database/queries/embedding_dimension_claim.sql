INSERT INTO settings (name, value)
VALUES ('embedding_dimension', $1)
ON CONFLICT (name) DO NOTHING
