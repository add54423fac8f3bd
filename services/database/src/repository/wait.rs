//! Waiting for a connection: as long as the caller waits, and not longer than the acquire timeout.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use weft_mesh::context;

use crate::error::Error;

/// Counts who waits.
#[derive(Debug)]
pub(super) struct Waiters {
    acquire_timeout: Duration,
    waiting: AtomicU32,
    timeouts: AtomicU64,
}

struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Waiters {
    pub(super) const fn new(acquire_timeout: Duration) -> Self {
        Self { acquire_timeout, waiting: AtomicU32::new(0), timeouts: AtomicU64::new(0) }
    }

    pub(super) async fn wait<T>(&self, acquire: impl Future<Output = T>) -> Result<T, Error> {
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        let timeout = context::remaining(self.acquire_timeout);
        if let Ok(acquired) = tokio::time::timeout(timeout, acquire).await {
            return Ok(acquired);
        }
        if caller_is_gone() {
            return Err(Error::DeadlineExceeded);
        }
        self.timeouts.fetch_add(1, Relaxed);
        Err(Error::PoolExhausted)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(super) fn timeouts(&self) -> u64 {
        self.timeouts.load(Relaxed)
    }
}

/// Whether the caller has stopped waiting.
pub(super) fn caller_is_gone() -> bool {
    context::current().deadline.is_some_and(|deadline| deadline <= Instant::now())
}
