-- $7 holds the punctuation that separates words, as on SQLite: the parser would keep `src/main.rs` in one piece.
INSERT INTO chunks (owner, document_id, generation, ordinal, heading, text, embedding, words)
SELECT $1, $2, $3, $4 + n - 1, heading, text, embedding,
       setweight(to_tsvector('english', translate(heading, $7::text, repeat(' ', length($7::text)))), 'A')
    || setweight(to_tsvector('english', translate($9::text, $7::text, repeat(' ', length($7::text)))), 'B')
    || to_tsvector('english', translate(text, $7::text, repeat(' ', length($7::text))))
    || array_to_tsvector(ARRAY['O' || encode(convert_to($1::text, 'UTF8'), 'hex')])
FROM unnest($5::text[], $6::text[], $8::vector[]) WITH ORDINALITY AS t (heading, text, embedding, n)
