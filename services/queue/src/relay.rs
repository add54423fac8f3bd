//! The relay: publishes to the broker what is due, and repeats what a crash or an outage left unpublished.
//!
//! It is the only publisher. A job just stored is published by it at once; one whose delay ends, whose retry is due or
//! whose publisher died is found by asking the store.

use std::time::Duration;

use crate::{
    clock::{Millis, millis},
    job::Queue,
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

/// Publishes for ever. `poll_interval` is how often the store is asked for jobs nobody told of, `timeout` how long a
/// batch may take.
pub async fn run(ledger: Ledger, metrics: Metrics, poll_interval: Duration, timeout: Duration) {
    let mut audited = tokio::time::Instant::now();
    loop {
        let published = if ledger.broker().connected() {
            publish_due(&ledger, &metrics, timeout).await.unwrap_or_else(|error| {
                tracing::debug!(error = weft_mesh::error::chain(&error), "the relay has to wait");
                0
            })
        } else {
            0
        };
        if audited.elapsed() >= AUDIT_INTERVAL {
            audited = tokio::time::Instant::now();
            audit(&ledger).await;
        }
        if published == 0 {
            let _ = tokio::time::timeout(poll_interval, ledger.stored()).await;
        }
    }
}

async fn publish_due(ledger: &Ledger, metrics: &Metrics, timeout: Duration) -> Result<usize> {
    let now = ledger.clock().now();
    // Whoever dies with jobs in hand loses them to the others a little after the confirms would have come.
    let due = ledger.jobs().reserve_unpublished(BATCH, now + 2 * millis(timeout), now).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let results = ledger.broker().publish(&due).await;
    let outcomes = due.into_iter().zip(results);
    let (mut confirmed, mut failed): (Vec<Pending>, usize) = (Vec::new(), 0);
    for (job, result) in outcomes {
        metrics.published(job.queue, result.is_ok());
        match result {
            Ok(()) => confirmed.push(job),
            Err(error) => {
                failed += 1;
                tracing::debug!(job = %job.id, error = weft_mesh::error::chain(&error), "not confirmed");
            }
        }
    }
    if failed > 0 {
        tracing::warn!(failed, "deliveries were not confirmed and will be repeated");
    }
    ledger.jobs().mark_published(&confirmed, ledger.clock().now()).await?;
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
