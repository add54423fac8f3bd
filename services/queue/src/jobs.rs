//! The job store: the record of every job, what became of it, and the log of its events.
//!
//! It alone decides who runs what: a broker only hints at jobs that are due, and a worker works on nothing that it has
//! not claimed here. Attempts, due times and leases are kept here and nowhere else.

pub mod batch;
#[cfg(test)]
mod conformance;
pub mod postgres;
mod row;
pub mod sqlite;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    clock::Millis,
    error::Error,
    job::{
        Job, NewJob, Queue, Recorded,
        machine::{Command, Refusal},
    },
};

/// The result of a store's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A job store. Times are passed in: a store has no clock of its own but [`Jobs::probe`]'s.
///
/// The contract:
///
/// 1. `insert` stores every job or none, durably, and returns them as stored, in the order given.
/// 2. A job whose id, or whose idempotency key on the same queue of the same owner, is known is not stored again:
///    `insert` returns the first one, marked as existed. That holds within one call too, and between concurrent calls.
/// 3. The same idempotency key of another owner, or on another queue, is another job.
/// 4. A job inserted dead on arrival is `Dead`, with the reason as its error and an `Ended` event.
/// 5. `due` lists waiting jobs of the queue whose time has come, the longest due first, and changes nothing.
/// 6. `claim` leases the jobs asked for that are waiting and due, and returns those with their payloads; the others it
///    leaves out. Of concurrent claims of one job exactly one gets it.
/// 7. `apply` makes each change as the state machine says, with its events numbered without gaps; a refused change
///    leaves its job as it was and the other changes of the call in force. Changes of one job apply in the order given.
/// 8. A change guarded by an owner answers `NotFound` for another owner's job, as for one that is not there.
/// 9. `events` returns the log after a sequence number, in order, at most `limit`.
/// 10. `expired` lists running jobs whose lease has ended, and changes nothing.
/// 11. `reserve_unpublished` takes due, waiting, unpublished jobs for publishing until a time: no one else gets them
///     before. `mark_published` takes those off for good whose epoch has not changed and who still wait;
///     `return_unpublished` gives them to whoever asks from a time on.
/// 12. A job that waits again (retry, release, lease end, redrive) is unpublished again.
/// 13. `unpublish` makes waiting jobs of a queue unpublished that were published before a time.
/// 14. `dead` lists an owner's dead letters newest first, page by page, without gaps or repetitions.
/// 15. `depths` counts every queue's jobs by state, and knows the due time of the longest due one.
/// 16. `forget` removes succeeded and cancelled jobs that ended before a time, with their logs, and the logs but for the
///     last event of those that ended before another; never anything of a dead letter or a living job.
/// 17. What a call has acknowledged is there after the store is opened again.
#[async_trait]
pub trait Jobs: Send + Sync + 'static {
    /// `sqlite` or `postgres`.
    fn backend(&self) -> &'static str;

    /// Stores jobs.
    async fn insert(&self, jobs: &[NewJob], now: Millis) -> Result<Vec<Inserted>>;

    /// The jobs of these ids that there are, in any order.
    async fn get(&self, ids: &[Uuid]) -> Result<Vec<Job>>;

    /// The payload of a job, if there is one of this id.
    async fn payload(&self, id: Uuid) -> Result<Option<Vec<u8>>>;

    /// Ids of due jobs.
    async fn due(&self, queue: Queue, limit: u32, now: Millis) -> Result<Vec<Pending>>;

    /// Leases jobs to a worker.
    async fn claim(
        &self,
        ids: &[Uuid],
        worker: &str,
        lease_until: Millis,
        now: Millis,
    ) -> Result<Vec<Claimed>>;

    /// Changes jobs.
    async fn apply(
        &self,
        changes: &[Change],
        now: Millis,
    ) -> Result<Vec<std::result::Result<Job, Rejection>>>;

    /// The log of a job.
    async fn events(&self, id: Uuid, after: u64, limit: u32) -> Result<Vec<Recorded>>;

    /// The last sequence numbers of jobs.
    async fn heads(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, u64)>>;

    /// Leases that have ended.
    async fn expired(&self, limit: u32, now: Millis) -> Result<Vec<ExpiredLease>>;

    /// Takes jobs to be published.
    async fn reserve_unpublished(&self, limit: u32, until: Millis, now: Millis) -> Result<Vec<Pending>>;

    /// Marks jobs as published.
    async fn mark_published(&self, jobs: &[Pending], now: Millis) -> Result<()>;

    /// Gives back jobs that were taken and not published.
    async fn return_unpublished(&self, jobs: &[Pending], from: Millis) -> Result<()>;

    /// Marks jobs as not published, whose deliveries the broker has lost. Returns how many.
    async fn unpublish(&self, queue: Queue, published_before: Millis) -> Result<u64>;

    /// A page of dead letters.
    async fn dead(&self, page: &DeadPage) -> Result<Vec<Job>>;

    /// Counts by queue, in the order of [`Queue::ALL`].
    async fn depths(&self, now: Millis) -> Result<Vec<Depth>>;

    /// Removes what retention has ended for. Returns how many jobs and events.
    async fn forget(&self, ended_before: Millis, log_before: Millis, limit: u32) -> Result<u64>;

    /// Whether the store answers, and what time it has, when it has one of its own that replicas should follow.
    async fn probe(&self) -> Result<Option<Millis>>;
}

/// A stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    /// As stored.
    pub job: Job,
    /// Whether it had been there before.
    pub existed: bool,
}

/// A job to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub id: Uuid,
    /// Where.
    pub queue: Queue,
    /// As of which claim: changes when somebody has claimed it since.
    pub epoch: u64,
    /// Trace context of whoever published it.
    pub traceparent: String,
}

/// A leased job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// As stored, lease and all.
    pub job: Job,
    /// As published.
    pub payload: Vec<u8>,
}

/// A change to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// To which job.
    pub id: Uuid,
    /// Only if it belongs to this user.
    pub owner: Option<String>,
    /// What.
    pub command: Command,
}

impl Change {
    /// A change on behalf of the service itself.
    #[must_use]
    pub fn new(id: Uuid, command: Command) -> Change {
        Change { id, owner: None, command }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No such job, or not for this owner.
    NotFound,
    /// The state machine refused.
    Refused(Refusal),
}

/// A lease that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredLease {
    /// Of which job.
    pub id: Uuid,
    /// Which lease.
    pub epoch: u64,
    /// Which attempt.
    pub attempts: u32,
}

/// A place in the list of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadPage {
    /// Whose.
    pub owner: String,
    /// Of which queue; of all when unset.
    pub queue: Option<Queue>,
    /// The end and id of the last one of the page before.
    pub after: Option<(Millis, Uuid)>,
    /// How many.
    pub limit: u32,
}

/// Counts of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Which.
    pub queue: Queue,
    /// Due and waiting.
    pub ready: u64,
    /// Waiting for their time.
    pub scheduled: u64,
    /// Leased.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Ready, but not confirmed by the broker.
    pub unpublished: u64,
    /// Due time of the longest due.
    pub oldest_due: Option<Millis>,
}
