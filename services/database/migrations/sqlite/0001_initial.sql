-- Times are microseconds since the Unix epoch. Long texts come last in a row, so that reading the columns before them
-- touches no overflow page.

CREATE TABLE users (
    id           TEXT    NOT NULL PRIMARY KEY,
    display_name TEXT    NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE chats (
    id              TEXT    NOT NULL PRIMARY KEY,
    owner           TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    model_id        TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    message_count   INTEGER NOT NULL,
    idempotency_key TEXT,
    title           TEXT    NOT NULL,
    last_message    TEXT    NOT NULL
) STRICT;
CREATE INDEX chats_by_recency ON chats (owner, updated_at DESC, id DESC);
CREATE UNIQUE INDEX chats_by_idempotency_key ON chats (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- `sequence` counts the messages of a chat: it orders them whatever the clocks did.
CREATE TABLE messages (
    chat_id         TEXT    NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    sequence        INTEGER NOT NULL,
    id              TEXT    NOT NULL,
    owner           TEXT    NOT NULL,
    role            INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    job_id          TEXT    NOT NULL,
    idempotency_key TEXT,
    citations       TEXT    NOT NULL,
    content         TEXT    NOT NULL,
    PRIMARY KEY (chat_id, sequence)
) STRICT;
CREATE UNIQUE INDEX messages_by_idempotency_key ON messages (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX messages_by_reply_job ON messages (owner, job_id) WHERE role = 2;

CREATE TABLE models (
    id             TEXT    NOT NULL PRIMARY KEY,
    display_name   TEXT    NOT NULL,
    context_tokens INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `generation` names the upload whose chunks are searchable; 0 means none.
CREATE TABLE documents (
    id           TEXT    NOT NULL PRIMARY KEY,
    owner        TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    path         TEXT    NOT NULL,
    content_type TEXT    NOT NULL,
    size_bytes   INTEGER NOT NULL,
    asset_id     TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    chunk_count  INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    job_id       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    reason       TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX documents_by_path ON documents (owner, path);
CREATE INDEX documents_by_state ON documents (owner, state, path);

CREATE TABLE chunks (
    id          INTEGER PRIMARY KEY,
    document_id TEXT    NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    generation  INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    heading     TEXT    NOT NULL,
    text        TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX chunks_by_document ON chunks (document_id, generation, ordinal);

-- The embeddings of up to 64 consecutive chunks in one blob: an exact scan reads few rows.
CREATE TABLE chunk_vectors (
    owner          TEXT    NOT NULL,
    document_id    TEXT    NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    generation     INTEGER NOT NULL,
    first_chunk_id INTEGER NOT NULL,
    embeddings     BLOB    NOT NULL
) STRICT;
CREATE INDEX chunk_vectors_by_owner ON chunk_vectors (owner);
CREATE INDEX chunk_vectors_by_document ON chunk_vectors (document_id, generation);

CREATE VIRTUAL TABLE chunk_index USING fts5 (
    text, heading, path,
    content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER chunks_leave_the_index AFTER DELETE ON chunks BEGIN
    DELETE FROM chunk_index WHERE rowid = old.id;
END;

CREATE TABLE notifications (
    id         TEXT    NOT NULL PRIMARY KEY,
    owner      TEXT    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    job_id     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    subject_id TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    read_at    INTEGER,
    text       TEXT    NOT NULL
) STRICT;
CREATE INDEX notifications_by_recency ON notifications (owner, created_at DESC, id DESC);
CREATE INDEX notifications_unread ON notifications (owner, created_at DESC, id DESC) WHERE read_at IS NULL;
CREATE UNIQUE INDEX notifications_by_job ON notifications (owner, job_id);

-- Effects outside this database that a committed write still owes. `target` is an entity or a queue, `subject` the
-- entity's id or the job's.
CREATE TABLE outbox (
    id          TEXT    NOT NULL PRIMARY KEY,
    kind        INTEGER NOT NULL,
    owner       TEXT    NOT NULL,
    target      TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    payload     BLOB    NOT NULL,
    traceparent TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    last_error  TEXT    NOT NULL
) STRICT;
CREATE INDEX outbox_by_due ON outbox (kind, due_at, id);

CREATE TABLE settings (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
