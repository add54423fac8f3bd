//! The broker: tells workers which jobs are due.
//!
//! A delivery is a hint and nothing more: a job runs only if the job store lets the worker claim it. So a delivery that
//! comes twice is harmless, and one that is lost is made up for by the relay.

#[cfg(test)]
mod conformance;
pub mod embedded;
pub mod rabbitmq;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    error::Error,
    job::Queue,
    jobs::{Pending, Result},
};

/// A broker.
///
/// The contract:
///
/// 1. A due job whose publishing was confirmed is delivered to a subscriber of its queue, at least once.
/// 2. A job is delivered on its own queue only.
/// 3. A delivery that was not settled is delivered again: when its subscription ends, or when it is returned.
/// 4. A delivery settled after its job was claimed does not come again.
/// 5. `next` waits for a delivery and returns at most as many as asked for; dropped while waiting, it loses none.
/// 6. Subscribers of one queue share its jobs.
/// 7. `publish` answers for each job in order, within the timeout, also when the broker is gone; a job that it does not
///    confirm may have been published all the same.
/// 8. Subscriptions and publishing go on by themselves after the broker was away.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// `embedded` or `rabbitmq`.
    fn backend(&self) -> &'static str;

    /// Whether it can be reached.
    fn connected(&self) -> bool;

    /// Whether due jobs have to be published to it. If not, it finds them in the job store.
    fn needs_publishing(&self) -> bool;

    /// A job of the queue may have become due in this process.
    fn wake(&self, queue: Queue);

    /// Publishes due jobs. Says of each whether the broker has confirmed it.
    async fn publish(&self, jobs: &[Pending]) -> Vec<Result<()>>;

    /// Receives the jobs of a queue, with at most `prefetch` unsettled at a time.
    fn subscribe(&self, queue: Queue, prefetch: usize) -> Box<dyn Subscription>;

    /// How many deliveries of a queue wait in the broker; `None` where the job store is the broker.
    async fn backlog(&self, queue: Queue) -> Result<Option<u64>>;
}

/// A stream of deliveries of one queue. It reconnects by itself.
#[async_trait]
pub trait Subscription: Send {
    /// The next deliveries: at least one, at most `max`.
    async fn next(&mut self, max: usize) -> Vec<Delivery>;
}

/// A hint that a job is due.
pub struct Delivery {
    /// The job.
    pub id: Uuid,
    /// To be settled when the hint has done its work.
    pub receipt: Receipt,
}

/// What settles a delivery. Dropping it settles nothing.
pub struct Receipt(Option<Box<dyn Settle>>);

/// Settles a delivery at the broker it came from.
#[async_trait]
pub trait Settle: Send + Sync {
    /// The delivery has done its work.
    async fn ack(&self) -> Result<()>;

    /// The delivery is to come again.
    async fn give_back(&self) -> Result<()>;
}

impl Receipt {
    /// A receipt of a delivery that needs no settling.
    #[must_use]
    pub fn nothing() -> Receipt {
        Receipt(None)
    }

    /// A receipt that settles.
    #[must_use]
    pub fn new(settle: impl Settle + 'static) -> Receipt {
        Receipt(Some(Box::new(settle)))
    }

    /// The delivery has done its work. A failure is logged, not returned: the delivery comes again, and is harmless.
    pub async fn ack(&mut self) {
        if let Some(settle) = self.0.take() {
            log(settle.ack().await);
        }
    }

    /// The delivery is to come again.
    pub async fn give_back(&mut self) {
        if let Some(settle) = self.0.take() {
            log(settle.give_back().await);
        }
    }
}

fn log(result: std::result::Result<(), Error>) {
    if let Err(error) = result {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a delivery was not settled and will come again"
        );
    }
}
