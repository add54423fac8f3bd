//! Rows as both SQL stores have them, and the unit of work that both apply to loaded rows.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Change, Depth, ExpiredLease, Pending, Rejection, Result};
use crate::{
    clock::Millis,
    error::Error,
    job::{
        Event, Job, Queue, Recorded, State,
        machine::{self, Effect},
    },
};

/// A job's row, without its payload.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct JobRow {
    id: Uuid,
    queue: i16,
    kind: String,
    owner: String,
    idempotency_key: Option<String>,
    state: i16,
    attempts: i64,
    max_attempts: i64,
    epoch: i64,
    lease_until: Option<i64>,
    worker: Option<String>,
    cancel_requested: bool,
    due_at: i64,
    published_at: Option<i64>,
    created_at: i64,
    ended_at: Option<i64>,
    errors: String,
    last_sequence: i64,
    traceparent: String,
}

impl JobRow {
    pub(super) fn decode(self) -> Result<Job> {
        let errors =
            serde_json::from_str(&self.errors).map_err(|source| Error::corrupt("job errors", source))?;
        Ok(Job {
            id: self.id,
            queue: queue(self.queue)?,
            kind: self.kind,
            owner: self.owner,
            idempotency_key: self.idempotency_key,
            state: u8::try_from(self.state)
                .ok()
                .and_then(State::from_code)
                .ok_or_else(|| Error::corrupt("job state", format!("code {}", self.state)))?,
            attempts: unsigned(self.attempts),
            max_attempts: unsigned(self.max_attempts),
            epoch: self.epoch.unsigned_abs(),
            lease_until: self.lease_until,
            worker: self.worker,
            cancel_requested: self.cancel_requested,
            due_at: self.due_at,
            published_at: self.published_at,
            created_at: self.created_at,
            ended_at: self.ended_at,
            errors,
            last_sequence: self.last_sequence.unsigned_abs(),
            traceparent: self.traceparent,
        })
    }
}

/// A row of [`Pending`].
#[derive(Debug, sqlx::FromRow)]
pub(super) struct PendingRow {
    id: Uuid,
    queue: i16,
    epoch: i64,
    traceparent: String,
}

impl PendingRow {
    pub(super) fn decode(self) -> Result<Pending> {
        Ok(Pending {
            id: self.id,
            queue: queue(self.queue)?,
            epoch: self.epoch.unsigned_abs(),
            traceparent: self.traceparent,
        })
    }
}

/// A row of counts.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct DepthRow {
    queue: i16,
    ready: i64,
    scheduled: i64,
    running: i64,
    dead: i64,
    unpublished: i64,
    oldest_due: Option<i64>,
}

/// All queues in order; one without jobs has no row.
pub(super) fn decode_depths(rows: &[DepthRow]) -> Vec<Depth> {
    let of = |queue: Queue| {
        let row = rows.iter().find(|row| row.queue == i16::from(queue as u8));
        let count = |pick: fn(&DepthRow) -> i64| row.map_or(0, |row| pick(row).unsigned_abs());
        Depth {
            queue,
            ready: count(|row| row.ready),
            scheduled: count(|row| row.scheduled),
            running: count(|row| row.running),
            dead: count(|row| row.dead),
            unpublished: count(|row| row.unpublished),
            oldest_due: row.and_then(|row| row.oldest_due),
        }
    };
    Queue::ALL.into_iter().map(of).collect()
}

/// A row of the log.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct EventRow {
    sequence: i64,
    event: String,
}

impl EventRow {
    pub(super) fn decode(self) -> Result<Recorded> {
        let event =
            serde_json::from_str(&self.event).map_err(|source| Error::corrupt("job event", source))?;
        Ok(Recorded { sequence: self.sequence.unsigned_abs(), event })
    }
}

/// What has to be written after changes were applied to loaded jobs.
#[derive(Debug, Default)]
pub(super) struct Work {
    jobs: HashMap<Uuid, Job>,
    touched: Vec<Uuid>,
    /// New rows of the log; one may replace the last that is there.
    pub(super) events: Vec<(Uuid, u64, String)>,
}

impl Work {
    pub(super) fn on(jobs: impl IntoIterator<Item = Job>) -> Work {
        Work { jobs: jobs.into_iter().map(|job| (job.id, job)).collect(), ..Work::default() }
    }

    /// Applies a change to the job as the changes before have left it.
    pub(super) fn apply(
        &mut self,
        change: &Change,
        now: Millis,
    ) -> Result<std::result::Result<Job, Rejection>> {
        let Some(job) = self.jobs.get_mut(&change.id) else { return Ok(Err(Rejection::NotFound)) };
        if change.owner.as_ref().is_some_and(|owner| *owner != job.owner) {
            return Ok(Err(Rejection::NotFound));
        }
        let effect = match machine::apply(job, &change.command, now) {
            Ok(effect) => effect,
            Err(refusal) => return Ok(Err(Rejection::Refused(refusal))),
        };
        let job = job.clone();
        self.write(&job, effect)?;
        Ok(Ok(job))
    }

    /// Notes the events of a job, numbered up to its last sequence number.
    pub(super) fn write(&mut self, job: &Job, effect: Effect) -> Result<()> {
        if !self.touched.contains(&job.id) {
            self.touched.push(job.id);
        }
        let first = job.last_sequence + 1 - effect.len() as u64;
        for (sequence, event) in (first..).zip(effect) {
            self.events.push((job.id, sequence, encode_event(&event)?));
        }
        Ok(())
    }

    /// The jobs that changed.
    pub(super) fn changed(&self) -> impl Iterator<Item = &Job> {
        self.touched.iter().filter_map(|id| self.jobs.get(id))
    }
}

pub(super) fn encode_event(event: &Event) -> Result<String> {
    serde_json::to_string(event).map_err(|source| Error::corrupt("job event", source))
}

pub(super) fn encode_errors(job: &Job) -> Result<String> {
    serde_json::to_string(&job.errors).map_err(|source| Error::corrupt("job errors", source))
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row of an ended lease: id, epoch, attempts.
pub(super) fn expired_lease((id, epoch, attempts): (Uuid, i64, i64)) -> ExpiredLease {
    ExpiredLease { id, epoch: epoch.unsigned_abs(), attempts: unsigned(attempts) }
}

fn unsigned(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn queue(code: i16) -> Result<Queue> {
    u8::try_from(code)
        .ok()
        .and_then(Queue::from_code)
        .ok_or_else(|| Error::corrupt("queue", format!("code {code}")))
}
