-- Job records and their event logs. Times are milliseconds since the Unix epoch; codes are those of src/job.rs.
CREATE TABLE jobs (
    id               uuid     NOT NULL PRIMARY KEY,
    queue            smallint NOT NULL,
    kind             text     NOT NULL,
    owner            text     NOT NULL,
    payload          bytea    NOT NULL,
    idempotency_key  text,
    state            smallint NOT NULL,
    attempts         bigint   NOT NULL,
    max_attempts     bigint   NOT NULL,
    epoch            bigint   NOT NULL,
    lease_until      bigint,
    worker           text,
    cancel_requested boolean  NOT NULL,
    due_at           bigint   NOT NULL,
    published_at     bigint,
    reserved_until   bigint   NOT NULL DEFAULT 0,
    created_at       bigint   NOT NULL,
    ended_at         bigint,
    errors           text     NOT NULL,
    last_sequence    bigint   NOT NULL,
    traceparent      text     NOT NULL
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX jobs_idempotency ON jobs (owner, queue, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (queue, due_at) WHERE state = 0;
CREATE INDEX jobs_unpublished ON jobs (due_at) WHERE state = 0 AND published_at IS NULL;
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 1;
CREATE INDEX jobs_dead ON jobs (owner, ended_at, id) WHERE state = 3;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE state IN (2, 4);

CREATE TABLE job_events (
    job_id   uuid   NOT NULL,
    sequence bigint NOT NULL,
    event    text   NOT NULL,
    PRIMARY KEY (job_id, sequence)
);
