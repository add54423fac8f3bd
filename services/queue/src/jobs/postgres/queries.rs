//! Every statement of the PostgreSQL job store.

macro_rules! columns {
    () => {
        "id, queue, kind, owner, idempotency_key, state, attempts, max_attempts, epoch, lease_until, worker, \
         cancel_requested, due_at, published_at, created_at, ended_at, errors, last_sequence, traceparent"
    };
}

pub(super) const INSERT: &str = "INSERT INTO jobs (id, queue, kind, owner, payload, idempotency_key, state, attempts, \
    max_attempts, epoch, cancel_requested, due_at, created_at, ended_at, errors, last_sequence, traceparent) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, 0, false, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING";

/// The idempotency key comes before the id: it is what the caller meant.
pub(super) const EXISTING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM jobs WHERE id = $1 OR (owner = $2 AND queue = $3 AND idempotency_key = $4)",
    " ORDER BY (idempotency_key IS NOT DISTINCT FROM $4 AND owner = $2) DESC LIMIT 1"
);

pub(super) const JOBS_BY_ID: &str = concat!("SELECT ", columns!(), " FROM jobs WHERE id = ANY($1)");

/// In the order of ids, so that two transactions never wait for each other.
pub(super) const LOCK_BY_ID: &str =
    concat!("SELECT ", columns!(), " FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE");

/// The same of those that wait. It does not skip what is locked: the relay may just be marking the job as published, and
/// a claim that passes it over would settle the only delivery there is.
pub(super) const LOCK_CLAIMABLE: &str =
    concat!("SELECT ", columns!(), " FROM jobs WHERE id = ANY($1) AND state = 0 ORDER BY id FOR UPDATE");

pub(super) const PAYLOAD: &str = "SELECT payload FROM jobs WHERE id = $1";

pub(super) const PAYLOADS: &str = "SELECT id, payload FROM jobs WHERE id = ANY($1)";

pub(super) const UPDATE: &str = "UPDATE jobs SET state = $2, attempts = $3, epoch = $4, lease_until = $5, worker = $6, \
    cancel_requested = $7, due_at = $8, published_at = $9, ended_at = $10, errors = $11, last_sequence = $12, \
    reserved_until = 0 WHERE id = $1";

pub(super) const PUT_EVENT: &str = "INSERT INTO job_events (job_id, sequence, event) VALUES ($1, $2, $3) \
    ON CONFLICT (job_id, sequence) DO UPDATE SET event = excluded.event";

pub(super) const EVENTS: &str = "SELECT sequence, event FROM job_events WHERE job_id = $1 AND sequence > $2 \
    ORDER BY sequence LIMIT $3";

pub(super) const HEADS: &str = "SELECT id, last_sequence FROM jobs WHERE id = ANY($1)";

pub(super) const DUE: &str = "SELECT id, queue, epoch, traceparent FROM jobs \
    WHERE state = 0 AND queue = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3";

pub(super) const EXPIRED: &str = "SELECT id, epoch, attempts FROM jobs WHERE state = 1 AND lease_until <= $1 ORDER BY lease_until LIMIT $2";

pub(super) const RESERVE_UNPUBLISHED: &str = "UPDATE jobs SET reserved_until = $3 WHERE id IN ( \
    SELECT id FROM jobs WHERE state = 0 AND published_at IS NULL AND due_at <= $1 AND reserved_until <= $1 \
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id, queue, epoch, traceparent";

// Whoever locks several jobs locks them in the order of their ids, as claims and changes do: nobody waits in a circle.

macro_rules! pending {
    ($set:literal) => {
        concat!(
            "UPDATE jobs SET ",
            $set,
            " WHERE id IN (SELECT jobs.id FROM jobs JOIN unnest($2::uuid[], $3::bigint[]) AS pending (id, epoch) \
              ON jobs.id = pending.id AND jobs.epoch = pending.epoch \
              WHERE state = 0 AND published_at IS NULL ORDER BY jobs.id FOR UPDATE OF jobs)"
        )
    };
}

pub(super) const MARK_PUBLISHED: &str = pending!("published_at = $1");

pub(super) const RETURN_UNPUBLISHED: &str = pending!("reserved_until = $1");

pub(super) const UNPUBLISH: &str = "UPDATE jobs SET published_at = NULL, reserved_until = 0 WHERE id IN ( \
    SELECT id FROM jobs WHERE state = 0 AND queue = $1 AND published_at < $2 ORDER BY id FOR UPDATE)";

pub(super) const DEAD: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM jobs WHERE state = 3 AND owner = $1 AND ($2::smallint IS NULL OR queue = $2)",
    " AND (ended_at, id) < ($3, $4) ORDER BY ended_at DESC, id DESC LIMIT $5"
);

/// One partial index for each part: ended jobs, which are most, are not looked at.
pub(super) const DEPTHS: &str = "SELECT queue, sum(ready) AS ready, sum(scheduled) AS scheduled, \
    sum(running) AS running, sum(dead) AS dead, sum(unpublished) AS unpublished, min(oldest) AS oldest_due FROM ( \
    SELECT queue, (due_at <= $1)::int AS ready, (due_at > $1)::int AS scheduled, 0 AS running, 0 AS dead, \
        (due_at <= $1 AND published_at IS NULL)::int AS unpublished, \
        CASE WHEN due_at <= $1 THEN due_at END AS oldest FROM jobs WHERE state = 0 \
    UNION ALL SELECT queue, 0, 0, 1, 0, 0, NULL FROM jobs WHERE state = 1 \
    UNION ALL SELECT queue, 0, 0, 0, 1, 0, NULL FROM jobs WHERE state = 3) AS counted GROUP BY queue";

pub(super) const FORGET_EVENTS: &str = "DELETE FROM job_events WHERE job_id IN ( \
    SELECT id FROM jobs WHERE state IN (2, 4) AND ended_at < $1 ORDER BY ended_at, id LIMIT $2)";

pub(super) const FORGET_JOBS: &str = "DELETE FROM jobs WHERE id IN ( \
    SELECT id FROM jobs WHERE state IN (2, 4) AND ended_at < $1 ORDER BY ended_at, id LIMIT $2)";

pub(super) const FORGET_LOGS: &str = "DELETE FROM job_events USING jobs \
    WHERE id = job_id AND state IN (2, 4) AND ended_at < $1 AND sequence < last_sequence";

pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Held by the session while the tables are brought up to date; the number is arbitrary and ours.
pub(super) const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_lock(7103000001)";

pub(super) const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS weft_queue";
