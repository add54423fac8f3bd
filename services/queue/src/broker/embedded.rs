//! The job store as the broker: workers are woken in process, and ask it from time to time for what nobody told of.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Broker, Delivery, Receipt, Subscription};
use crate::{
    clock::Clock,
    job::Queue,
    jobs::{Jobs, Pending, Result},
};

/// Delivers from the job store itself.
pub struct EmbeddedBroker {
    jobs: Arc<dyn Jobs>,
    clock: Clock,
    poll_interval: Duration,
    wakes: [Arc<Notify>; Queue::ALL.len()],
}

impl EmbeddedBroker {
    /// Delivers what is due in `jobs`. Nobody tells it of delayed jobs, retries and other processes' jobs: it looks for
    /// them every `poll_interval`.
    #[must_use]
    pub fn new(jobs: Arc<dyn Jobs>, clock: Clock, poll_interval: Duration) -> EmbeddedBroker {
        EmbeddedBroker { jobs, clock, poll_interval, wakes: Default::default() }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    fn backend(&self) -> &'static str {
        "embedded"
    }

    fn connected(&self) -> bool {
        true
    }

    fn needs_publishing(&self) -> bool {
        false
    }

    fn wake(&self, queue: Queue) {
        self.wakes[queue as usize].notify_one();
    }

    async fn publish(&self, jobs: &[Pending]) -> Vec<Result<()>> {
        jobs.iter().for_each(|job| self.wake(job.queue));
        jobs.iter().map(|_| Ok(())).collect()
    }

    fn subscribe(&self, queue: Queue, _prefetch: usize) -> Box<dyn Subscription> {
        Box::new(EmbeddedSubscription {
            jobs: self.jobs.clone(),
            clock: self.clock.clone(),
            queue,
            poll_interval: self.poll_interval,
            wake: self.wakes[queue as usize].clone(),
        })
    }

    async fn backlog(&self, _queue: Queue) -> Result<Option<u64>> {
        Ok(None)
    }
}

struct EmbeddedSubscription {
    jobs: Arc<dyn Jobs>,
    clock: Clock,
    queue: Queue,
    poll_interval: Duration,
    wake: Arc<Notify>,
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self, max: usize) -> Vec<Delivery> {
        let limit = u32::try_from(max).unwrap_or(u32::MAX);
        loop {
            match self.jobs.due(self.queue, limit, self.clock.now()).await {
                Ok(due) if due.is_empty() => {}
                Ok(due) => {
                    let delivery = |job: Pending| Delivery { id: job.id, receipt: Receipt::nothing() };
                    return due.into_iter().map(delivery).collect();
                }
                // Logged once by the readiness probe, which watches the store.
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "due jobs cannot be read");
                }
            }
            // Polls of many replicas should not meet.
            let pause = self.poll_interval.mul_f64(0.75 + 0.5 * fastrand::f64());
            let _ = tokio::time::timeout(pause, self.wake.notified()).await;
        }
    }
}
