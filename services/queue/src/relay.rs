//! The relay: publishes to the broker what is due, and repeats what a crash or an outage left unpublished.
//!
//! It is the only publisher. A job just stored is published by it at once; one whose delay ends, whose retry is due or
//! whose publisher died is found by asking the store.

use std::time::Duration;

use crate::{
    clock::{Millis, millis},
    job::{Queue, backoff::Backoff},
    jobs::{Pending, Result},
    ledger::Ledger,
    metrics::Metrics,
};

/// The most jobs published at a time: enough for a fsync to be shared, few enough to be confirmed in time.
const BATCH: u32 = 256;
/// How often lost deliveries are looked for.
const AUDIT_INTERVAL: Duration = Duration::from_secs(10);
/// A job that was published this long ago and still waits, although its queue is empty, has lost its delivery.
const LOST_AFTER: Duration = Duration::from_secs(30);
/// The same while its queue is not empty: it may just be waiting its turn, and a second delivery does no harm.
const PERHAPS_LOST_AFTER: Duration = Duration::from_secs(30 * 60);

/// How long jobs wait that the broker did not confirm.
const RETRY: Backoff = Backoff { base: Duration::from_millis(50), factor: 2.0, cap: Duration::from_secs(2) };

/// Publishes for ever. `poll_interval` is how often the store is asked for jobs nobody told of, `timeout` how long a
/// batch may take.
pub async fn run(ledger: Ledger, metrics: Metrics, poll_interval: Duration, timeout: Duration) {
    let mut audited = tokio::time::Instant::now();
    let mut failures = 0;
    loop {
        let mut published = 0;
        if ledger.broker().connected() {
            match publish_due(&ledger, &metrics, timeout, &mut failures).await {
                Ok(confirmed) => published = confirmed,
                Err(error) => {
                    tracing::debug!(error = weft_mesh::error::chain(&error), "the relay has to wait");
                }
            }
        }
        if audited.elapsed() >= AUDIT_INTERVAL {
            audited = tokio::time::Instant::now();
            audit(&ledger).await;
        }
        if published == 0 {
            let _ = tokio::time::timeout(poll_interval, ledger.stored()).await;
        }
    }
}

/// Returns how many jobs were confirmed. `failures` counts the batches in a row of which some were not.
async fn publish_due(
    ledger: &Ledger,
    metrics: &Metrics,
    timeout: Duration,
    failures: &mut u32,
) -> Result<usize> {
    let now = ledger.clock().now();
    // Whoever dies with jobs in hand loses them to the others a little after the confirms would have come.
    let due = ledger.jobs().reserve_unpublished(BATCH, now + 2 * millis(timeout), now).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let results = ledger.broker().publish(&due).await;
    let (mut confirmed, mut failed): (Vec<Pending>, Vec<Pending>) = (Vec::new(), Vec::new());
    for (job, result) in due.into_iter().zip(results) {
        metrics.published(job.queue, result.is_ok());
        match result {
            Ok(()) => confirmed.push(job),
            Err(error) => {
                tracing::debug!(job = %job.id, error = weft_mesh::error::chain(&error), "not confirmed");
                failed.push(job);
            }
        }
    }
    ledger.jobs().mark_published(&confirmed, ledger.clock().now()).await?;
    if failed.is_empty() {
        *failures = 0;
    } else {
        *failures += 1;
        tracing::warn!(failed = failed.len(), "deliveries were not confirmed and will be repeated");
        let wait = RETRY.delay(*failures, fastrand::f64(), Duration::ZERO);
        ledger.jobs().return_unpublished(&failed, ledger.clock().now() + millis(wait)).await?;
    }
    Ok(confirmed.len())
}

/// Finds deliveries that the broker has lost: queues deleted or purged, a broker set up anew.
async fn audit(ledger: &Ledger) {
    for queue in Queue::ALL {
        if let Err(error) = audit_queue(ledger, queue).await {
            tracing::debug!(error = weft_mesh::error::chain(&error), "deliveries cannot be audited now");
        }
    }
}

async fn audit_queue(ledger: &Ledger, queue: Queue) -> Result<()> {
    let empty = ledger.broker().backlog(queue).await? == Some(0);
    let patience = if empty { LOST_AFTER } else { PERHAPS_LOST_AFTER };
    let before: Millis = ledger.clock().now() - millis(patience);
    let lost = ledger.jobs().unpublish(queue, before).await?;
    if lost > 0 {
        tracing::warn!(queue = queue.name(), lost, "deliveries were lost by the broker and will be repeated");
    }
    Ok(())
}
