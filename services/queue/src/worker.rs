//! Workers: take due jobs of one queue, a bounded number at a time, and see each through to its outcome.

mod attempt;
pub mod output;

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    broker::{Delivery, Subscription},
    config,
    handler::Handlers,
    job::{Queue, backoff::Backoff},
    jobs::Claimed,
    ledger::Ledger,
    metrics::Metrics,
};

/// Waits while the job store is away.
const STORE_AWAY: Backoff =
    Backoff { base: Duration::from_millis(100), factor: 2.0, cap: Duration::from_secs(2) };

/// What workers need.
#[derive(Clone)]
pub struct Worker {
    /// The job store and the broker.
    pub ledger: Ledger,
    /// What is done for each type of job.
    pub handlers: Handlers,
    /// The name under which this process holds leases.
    pub name: Arc<str>,
    /// How jobs are run.
    pub config: config::Workers,
    /// When failed attempts are repeated.
    pub backoff: Backoff,
    /// What is counted.
    pub metrics: Metrics,
    /// Where attempts run.
    pub tasks: TaskTracker,
    /// Cancelled when no new jobs are to be taken.
    pub draining: CancellationToken,
    /// Cancelled when running jobs are to be given back.
    pub stopping: CancellationToken,
}

impl Worker {
    /// Works on a queue until it is told to drain and what runs has ended.
    pub async fn run(self, queue: Queue) {
        let concurrency = self.config.concurrency(queue);
        let slots = Arc::new(Semaphore::new(concurrency));
        let mut subscription = self.ledger.broker().subscribe(queue, concurrency);
        while let Some(permits) = self.take(&slots, subscription.as_mut()).await {
            for (claimed, delivery, permit) in permits {
                let worker = self.clone();
                self.tasks.spawn(async move {
                    worker.attempt(claimed, delivery.receipt).await;
                    drop(permit);
                });
            }
        }
        // The subscription stays until the last attempt has settled its delivery.
        let all = u32::try_from(concurrency).unwrap_or(u32::MAX);
        let _ = slots.acquire_many(all).await;
    }

    /// The next jobs to run with their places; `None` when draining.
    async fn take(
        &self,
        slots: &Arc<Semaphore>,
        subscription: &mut dyn Subscription,
    ) -> Option<Vec<(Claimed, Delivery, OwnedSemaphorePermit)>> {
        let first = tokio::select! {
            biased;
            () = self.draining.cancelled() => return None,
            permit = slots.clone().acquire_owned() => permit.ok()?,
        };
        let mut permits = vec![first];
        while let Ok(permit) = slots.clone().try_acquire_owned() {
            permits.push(permit);
        }
        let deliveries = tokio::select! {
            biased;
            () = self.draining.cancelled() => return None,
            deliveries = subscription.next(permits.len()) => deliveries,
        };
        Some(self.claim(deliveries, permits).await)
    }

    /// Claims the delivered jobs. A delivery whose job cannot be claimed has done its work: somebody else has the job,
    /// it has ended, or it is not due.
    async fn claim(
        &self,
        deliveries: Vec<Delivery>,
        mut permits: Vec<OwnedSemaphorePermit>,
    ) -> Vec<(Claimed, Delivery, OwnedSemaphorePermit)> {
        let ids: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.id).collect();
        let mut failures = 0;
        let mut claimed = loop {
            match self.ledger.claim(&ids, &self.name, self.config.lease).await {
                Ok(claimed) => break claimed,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(
                        error = weft_mesh::error::chain(&error),
                        "jobs cannot be claimed, trying on"
                    );
                    let pause = STORE_AWAY.delay(failures, fastrand::f64(), Duration::from_millis(20));
                    tokio::select! {
                        () = self.draining.cancelled() => break Vec::new(),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        };
        let mut taken = Vec::with_capacity(claimed.len());
        for mut delivery in deliveries {
            let place = claimed.iter().position(|claimed| claimed.job.id == delivery.id);
            match (place, permits.pop()) {
                (Some(place), Some(permit)) => taken.push((claimed.swap_remove(place), delivery, permit)),
                _ if self.draining.is_cancelled() => delivery.receipt.give_back().await,
                _ => delivery.receipt.ack().await,
            }
        }
        taken
    }
}
