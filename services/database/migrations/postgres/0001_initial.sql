-- Times are microseconds since the Unix epoch. Ids and paths sort by bytes (collation "C"), as on SQLite.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

CREATE TABLE users (
    id           text   COLLATE "C" PRIMARY KEY,
    display_name text   NOT NULL,
    created_at   bigint NOT NULL
);

CREATE TABLE chats (
    id              text   COLLATE "C" PRIMARY KEY,
    owner           text   COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    model_id        text   NOT NULL,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL,
    message_count   bigint NOT NULL,
    idempotency_key text   COLLATE "C",
    title           text   NOT NULL,
    last_message    text   NOT NULL
);
CREATE INDEX chats_by_recency ON chats (owner, updated_at DESC, id DESC);
CREATE UNIQUE INDEX chats_by_idempotency_key ON chats (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- `sequence` counts the messages of a chat: it orders them whatever the clocks did.
CREATE TABLE messages (
    chat_id         text   COLLATE "C" NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    sequence        bigint NOT NULL,
    id              text   COLLATE "C" NOT NULL,
    owner           text   COLLATE "C" NOT NULL,
    role            bigint NOT NULL,
    created_at      bigint NOT NULL,
    job_id          text   COLLATE "C" NOT NULL,
    idempotency_key text   COLLATE "C",
    citations       text   NOT NULL,
    content         text   NOT NULL,
    PRIMARY KEY (chat_id, sequence)
);
CREATE UNIQUE INDEX messages_by_idempotency_key ON messages (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX messages_by_reply_job ON messages (owner, job_id) WHERE role = 2;

CREATE TABLE models (
    id             text   COLLATE "C" PRIMARY KEY,
    display_name   text   NOT NULL,
    context_tokens bigint NOT NULL,
    updated_at     bigint NOT NULL
);

-- `generation` names the upload whose chunks are searchable; 0 means none.
CREATE TABLE documents (
    id           text   COLLATE "C" PRIMARY KEY,
    owner        text   COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    path         text   COLLATE "C" NOT NULL,
    content_type text   NOT NULL,
    size_bytes   bigint NOT NULL,
    asset_id     text   NOT NULL,
    version      bigint NOT NULL,
    state        bigint NOT NULL,
    chunk_count  bigint NOT NULL,
    generation   bigint NOT NULL,
    job_id       text   NOT NULL,
    created_at   bigint NOT NULL,
    updated_at   bigint NOT NULL,
    reason       text   NOT NULL
);
CREATE UNIQUE INDEX documents_by_path ON documents (owner, path);
CREATE INDEX documents_by_state ON documents (owner, state, path);

CREATE TABLE chunks (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner       text   COLLATE "C" NOT NULL,
    document_id text   COLLATE "C" NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    generation  bigint NOT NULL,
    ordinal     bigint NOT NULL,
    heading     text   NOT NULL,
    text        text   NOT NULL,
    words       tsvector NOT NULL,
    embedding   vector
);
-- In the row while it fits: a scan that has to fetch each embedding from elsewhere takes six times as long.
ALTER TABLE chunks ALTER COLUMN embedding SET STORAGE MAIN;
CREATE UNIQUE INDEX chunks_by_document ON chunks (document_id, generation, ordinal);
CREATE INDEX chunks_by_owner ON chunks (owner);
CREATE INDEX chunks_by_word ON chunks USING gin (words);

CREATE TABLE notifications (
    id         text   COLLATE "C" PRIMARY KEY,
    owner      text   COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    job_id     text   COLLATE "C" NOT NULL,
    kind       text   NOT NULL,
    subject_id text   NOT NULL,
    created_at bigint NOT NULL,
    read_at    bigint,
    text       text   NOT NULL
);
CREATE INDEX notifications_by_recency ON notifications (owner, created_at DESC, id DESC);
CREATE INDEX notifications_unread ON notifications (owner, created_at DESC, id DESC) WHERE read_at IS NULL;
CREATE UNIQUE INDEX notifications_by_job ON notifications (owner, job_id);

-- Effects outside this database that a committed write still owes. `target` is an entity or a queue, `subject` the
-- entity's id or the job's.
CREATE TABLE outbox (
    id          text   COLLATE "C" PRIMARY KEY,
    kind        bigint NOT NULL,
    owner       text   NOT NULL,
    target      text   NOT NULL,
    subject     text   NOT NULL,
    type        text   NOT NULL,
    payload     bytea  NOT NULL,
    traceparent text   NOT NULL,
    created_at  bigint NOT NULL,
    due_at      bigint NOT NULL,
    attempts    bigint NOT NULL,
    last_error  text   NOT NULL
);
CREATE INDEX outbox_by_due ON outbox (kind, due_at, id);

CREATE TABLE settings (
    name  text   COLLATE "C" PRIMARY KEY,
    value bigint NOT NULL
);
