//! The front of the job store for the rest of the service: commits in groups, tells watchers, wakes workers.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    broker::Broker,
    clock::{Clock, millis},
    job::{Job, NewJob, Queue, State},
    jobs::{Change, Claimed, Inserted, Jobs, Rejection, Result, batch::Batch},
    watch::Watchers,
};

/// How early a job may be claimed. A delivery says that it is due by the clock of another replica; refusing it for a few
/// milliseconds of difference would settle the only delivery there is.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// What became of a change.
pub type Changed = std::result::Result<Job, Rejection>;

/// The front of the job store. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    jobs: Arc<dyn Jobs>,
    broker: Arc<dyn Broker>,
    inserts: Batch<NewJob, Inserted>,
    changes: Batch<Change, Changed>,
    watchers: Watchers,
    relay: Arc<Notify>,
    clock: Clock,
}

impl Ledger {
    /// Starts the two tasks that commit. They end with `closing`.
    #[must_use]
    pub fn start(
        jobs: Arc<dyn Jobs>,
        broker: Arc<dyn Broker>,
        clock: Clock,
        tasks: &TaskTracker,
        closing: &CancellationToken,
    ) -> Ledger {
        let (store, time) = (jobs.clone(), clock.clone());
        let insert = Box::new(move |new: Vec<NewJob>| {
            let (store, time) = (store.clone(), time.clone());
            Box::pin(async move { store.insert(&new, time.now()).await }) as _
        });
        let (store, time) = (jobs.clone(), clock.clone());
        let apply = Box::new(move |changes: Vec<Change>| {
            let (store, time) = (store.clone(), time.clone());
            Box::pin(async move { store.apply(&changes, time.now()).await }) as _
        });
        Ledger {
            inserts: Batch::start(insert, tasks, closing.clone()),
            changes: Batch::start(apply, tasks, closing.clone()),
            jobs,
            broker,
            watchers: Watchers::default(),
            relay: Arc::new(Notify::new()),
            clock,
        }
    }

    /// The store itself, for reading.
    #[must_use]
    pub fn jobs(&self) -> &Arc<dyn Jobs> {
        &self.jobs
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Who watches what.
    #[must_use]
    pub fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Waits until a job that may have to be published was stored.
    pub async fn stored(&self) {
        self.relay.notified().await;
    }

    /// Stores a job, and has it delivered when it is due.
    ///
    /// # Errors
    /// The store's.
    pub async fn publish(&self, new: NewJob) -> Result<Inserted> {
        let inserted = self.inserts.store(new).await?;
        if !inserted.existed {
            self.wake(&inserted.job);
        }
        Ok(inserted)
    }

    /// Changes a job, and tells whoever has to know.
    ///
    /// # Errors
    /// The store's. A refusal of the change is no error.
    pub async fn change(&self, change: Change) -> Result<Changed> {
        let changed = self.changes.store(change).await?;
        if let Ok(job) = &changed {
            self.watchers.tell(job.id, job.last_sequence);
            self.wake(job);
        }
        Ok(changed)
    }

    /// Leases jobs to a worker.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim(&self, ids: &[Uuid], worker: &str, lease: Duration) -> Result<Vec<Claimed>> {
        let now = self.clock.now();
        self.jobs.claim(ids, worker, now + millis(lease), now + millis(CLOCK_SLACK)).await
    }

    /// Wakes the workers of a queue.
    pub fn wake_workers(&self, queue: Queue) {
        self.broker.wake(queue);
    }

    fn wake(&self, job: &Job) {
        if job.state == State::Waiting && job.due_at <= self.clock.now() {
            self.broker.wake(job.queue);
            self.relay.notify_one();
        }
    }
}
