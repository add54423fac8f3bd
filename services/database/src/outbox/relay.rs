//! The relay: strikes out what has happened, and does what is due and nobody else has done.

use std::{
    sync::{PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use weft_mesh::error::Classify;

use super::Outbox;
use crate::{
    error::Error,
    failpoint::Point,
    repository::outbox::{Claimed, Kind},
};

/// Effects claimed at once.
const BATCH: usize = 64;
/// Of these, in progress at once.
const CONCURRENCY: usize = 8;
/// How long a claim stands: longer than a batch takes at its slowest.
const LEASE: Duration = Duration::from_secs(60);
/// How long one effect may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a wake-up, how long to let more come together.
const GATHER: Duration = Duration::from_millis(5);
/// Between attempts at an effect that fails: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Between attempts at most, while the other service is merely away.
const AWAY: Duration = Duration::from_secs(2);
/// Every so many looks, what is owed is counted for the metrics.
const COUNTED: u32 = 10;

impl Outbox {
    /// Works until the service drains: woken by writes of this process, and every `poll` for everything else.
    pub async fn relay(&self, poll: Duration, draining: CancellationToken) {
        let mut looks = 0;
        loop {
            let woken = tokio::select! {
                () = draining.cancelled() => break,
                woken = tokio::time::timeout(poll, self.wake.notified()) => woken.is_ok(),
            };
            if woken {
                tokio::time::sleep(GATHER).await;
            } else {
                looks += 1;
            }
            let look = !woken || self.owing.swap(false, Relaxed);
            if let Err(error) = self.round(look, looks % COUNTED == 1).await {
                tracing::debug!(error = weft_mesh::error::chain(&error), "outbox not relayed");
            }
        }
        drop(self.settle().await);
    }

    async fn round(&self, look: bool, count: bool) -> Result<(), Error> {
        self.settle().await?;
        if look {
            for kind in [Kind::Invalidate, Kind::Publish] {
                self.relay_due(kind).await?;
            }
        }
        if count {
            self.metrics.outbox(self.repository.owed().await?);
        }
        Ok(())
    }

    /// Does what is due, until nothing is or nothing succeeds: then the other service is away, and the next round is
    /// soon enough.
    async fn relay_due(&self, kind: Kind) -> Result<(), Error> {
        while self.repository.is_owing(kind).await? {
            let claimed = self.repository.claim_owed(kind, BATCH, LEASE).await?;
            let attempts = stream::iter(claimed).map(|claimed| async move { self.relay_one(&claimed).await });
            // Every one of them is attempted: `any` would stop at the first that happens and leave the rest claimed.
            let attempts = attempts.buffer_unordered(CONCURRENCY);
            let happened = attempts.fold(false, async |any, happened| any | happened).await;
            self.settle().await?;
            if !happened {
                break;
            }
        }
        Ok(())
    }

    async fn relay_one(&self, claimed: &Claimed) -> bool {
        let span = tracing::info_span!("outbox", attempts = claimed.attempts);
        weft_mesh::trace::adopt_traceparent(&span, &claimed.traceparent);
        match self.attempt(&claimed.owed, PATIENCE).instrument(span).await {
            Ok(()) => {
                self.settle_later(claimed.owed.id.clone());
                true
            }
            Err(error) => {
                self.defer(claimed, &error).await;
                false
            }
        }
    }

    /// It stays in the outbox for as long as it takes.
    async fn defer(&self, claimed: &Claimed, error: &Error) {
        let text = weft_mesh::error::chain(error);
        if claimed.attempts == 1 {
            // The effect itself holds what users wrote: its id has to do.
            tracing::warn!(error = text, owed = ?claimed.owed.id, "an effect failed, it will be repeated");
        }
        let grown = BACKOFF.0.saturating_mul(1 << claimed.attempts.min(10).saturating_sub(1));
        // A service that is away is tried often: what it is owed should not wait long after its return.
        let most = if error.kind().retryable() { AWAY } else { BACKOFF.1 };
        let delay = grown.min(most).mul_f64(0.5 + fastrand::f64());
        // If this fails too, the claim's lease ends.
        drop(self.repository.defer_owed(claimed.owed.id.clone(), delay, text).await);
    }

    /// Strikes out what has happened. What cannot be struck out now will be later, or happens again.
    async fn settle(&self) -> Result<(), Error> {
        let ids = std::mem::take(&mut *self.happened.lock().unwrap_or_else(PoisonError::into_inner));
        if ids.is_empty() {
            return Ok(());
        }
        self.failpoint.reach(Point::BeforeRowDelete);
        let settled = self.repository.settle_owed(ids.clone()).await;
        if settled.is_err() {
            self.happened.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        }
        settled
    }
}
