-- Job records and their event logs. Times are milliseconds since the Unix epoch; codes are those of src/job.rs.
CREATE TABLE jobs (
    id               BLOB    NOT NULL PRIMARY KEY,
    queue            INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    owner            TEXT    NOT NULL,
    payload          BLOB    NOT NULL,
    idempotency_key  TEXT,
    state            INTEGER NOT NULL,
    attempts         INTEGER NOT NULL,
    max_attempts     INTEGER NOT NULL,
    epoch            INTEGER NOT NULL,
    lease_until      INTEGER,
    worker           TEXT,
    cancel_requested INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    published_at     INTEGER,
    reserved_until   INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    errors           TEXT    NOT NULL,
    last_sequence    INTEGER NOT NULL,
    traceparent      TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX jobs_idempotency ON jobs (owner, queue, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (queue, due_at) WHERE state = 0;
CREATE INDEX jobs_unpublished ON jobs (due_at) WHERE state = 0 AND published_at IS NULL;
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 1;
CREATE INDEX jobs_dead ON jobs (owner, ended_at, id) WHERE state = 3;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE state IN (2, 4);

CREATE TABLE job_events (
    job_id   BLOB    NOT NULL,
    sequence INTEGER NOT NULL,
    event    TEXT    NOT NULL,
    PRIMARY KEY (job_id, sequence)
) STRICT, WITHOUT ROWID;
