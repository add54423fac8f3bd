//! Housekeeping: leases that ended, records whose retention ended, children with nothing to do, and the store's health.

use std::time::Duration;

use weft_mesh::error::chain;
use weft_runtime::Readiness;

use crate::{
    clock::millis,
    config::Retention,
    extractor::Extractor,
    handler::Handlers,
    job::{backoff::Backoff, machine::Command},
    jobs::{Change, ExpiredLease, Result},
    ledger::Ledger,
    metrics::Metrics,
};

/// How often ended leases are looked for.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);
const LEASE_BATCH: u32 = 100;
/// How often the store is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const FORGET_BATCH: u32 = 1000;
const CHILD_IDLE: Duration = Duration::from_secs(60);

/// Gives jobs whose worker is not heard of any more another attempt, or up, for ever.
pub async fn leases(ledger: Ledger, handlers: Handlers, backoff: Backoff, metrics: Metrics) {
    loop {
        if let Err(error) = expire(&ledger, &handlers, backoff, &metrics).await {
            tracing::debug!(error = chain(&error), "ended leases cannot be read");
        }
        tokio::time::sleep(LEASE_INTERVAL.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
    }
}

/// One look at the ended leases. Returns how many jobs it took from their workers.
///
/// # Errors
/// The store's.
pub async fn expire(
    ledger: &Ledger,
    handlers: &Handlers,
    backoff: Backoff,
    metrics: &Metrics,
) -> Result<usize> {
    let now = ledger.clock().now();
    let expired = ledger.jobs().expired(LEASE_BATCH, now).await?;
    let mut taken = 0;
    for lease in expired {
        if !told(ledger, handlers, &lease).await? {
            continue;
        }
        let retry_at = now + millis(backoff.delay(lease.attempts, fastrand::f64(), Duration::ZERO));
        let expire = Command::Expire { epoch: lease.epoch, retry_at };
        if let Ok(job) = ledger.change(Change::new(lease.id, expire)).await? {
            tracing::warn!(job = %job.id, attempt = lease.attempts, "a lease ended without a sign of life");
            metrics.lease_expired();
            taken += 1;
        }
    }
    Ok(taken)
}

/// Before the last attempt's end makes a dead letter, those who wait for its effect are told.
async fn told(ledger: &Ledger, handlers: &Handlers, lease: &ExpiredLease) -> Result<bool> {
    let Some(job) = ledger.jobs().get(&[lease.id]).await?.pop() else { return Ok(true) };
    if job.attempts < job.max_attempts || job.epoch != lease.epoch {
        return Ok(true);
    }
    let payload = ledger.jobs().payload(lease.id).await?.unwrap_or_default();
    let reason = format!("its workers died or hung {} times while working on it", job.attempts);
    match handlers.give_up(&job, &payload, &reason).await {
        Ok(()) => Ok(true),
        Err(failure) => {
            tracing::warn!(job = %job.id, error = failure.message(), "cannot give the job up yet");
            Ok(false)
        }
    }
}

/// Removes what retention has ended for, for ever.
pub async fn retention(ledger: Ledger, config: Retention) {
    loop {
        let now = ledger.clock().now();
        let (jobs, logs) = (now - millis(config.jobs), now - millis(config.logs));
        match ledger.jobs().forget(jobs, logs, FORGET_BATCH).await {
            Ok(removed) if removed >= u64::from(FORGET_BATCH) => continue,
            Ok(_) => {}
            Err(error) => tracing::debug!(error = chain(&error), "nothing could be forgotten"),
        }
        tokio::time::sleep(config.interval).await;
    }
}

/// Ends idle extractors, for ever.
pub async fn children(extractor: Extractor) {
    loop {
        tokio::time::sleep(CHILD_IDLE / 2).await;
        extractor.reap(CHILD_IDLE);
    }
}

/// Watches the job store, for ever: readiness, the common clock, depths.
pub async fn health(ledger: Ledger, ready: Readiness, metrics: Metrics) {
    loop {
        let state = probe(&ledger, &metrics).await;
        ready.set(state.map_err(|error| format!("{}: {}", ledger.jobs().backend(), chain(&error))));
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

async fn probe(ledger: &Ledger, metrics: &Metrics) -> Result<()> {
    if let Some(now) = ledger.jobs().probe().await? {
        ledger.clock().follow(now);
    }
    let now = ledger.clock().now();
    metrics.depths(&ledger.jobs().depths(now).await?, now);
    metrics.watched(ledger.watchers().len());
    Ok(())
}
