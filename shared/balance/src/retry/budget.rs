//! The retry budget of Envoy: retries in flight are at most a share of the calls in flight, and a few in any case.
//!
//! Unlike a token bucket it needs no clock and gives back what it took; unlike a fixed limit it grows with the load.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Decision, Why};

/// Counts calls and retries in flight. Clones share the counts; lock-free.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    percent: AtomicU64,
    least: AtomicU64,
    calls: AtomicU64,
    retries: AtomicU64,
}

/// A call in flight, until this is dropped.
#[derive(Debug)]
#[must_use = "the call is counted until this is dropped"]
pub struct Call(Arc<Counts>);

/// A retry in flight, its wait included, until this is dropped.
#[derive(Debug)]
#[must_use = "the retry is counted until this is dropped"]
pub struct Retry(Arc<Counts>);

impl Default for Budget {
    /// 20 % of the calls in flight, but 3 in any case.
    fn default() -> Self {
        Self::new(20, 3)
    }
}

impl Budget {
    /// Allows `percent` of the calls in flight, rounded down, but `least` in any case.
    #[must_use]
    pub fn new(percent: u32, least: u32) -> Self {
        let (percent, least) = (u64::from(percent).into(), u64::from(least).into());
        let (calls, retries) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Counts { percent, least, calls, retries }))
    }

    /// Changes the limits. Retries in flight stay.
    pub fn configure(&self, percent: u32, least: u32) {
        self.0.percent.store(percent.into(), Ordering::Relaxed);
        self.0.least.store(least.into(), Ordering::Relaxed);
    }

    /// Counts a call, once, however often it is sent.
    pub fn call(&self) -> Call {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(&self.0))
    }

    /// Takes the place that a decision needs. If it needs one and there is none, the decision becomes a stop.
    #[must_use]
    pub fn claim(&self, decision: Decision) -> (Decision, Option<Retry>) {
        if !matches!(decision, Decision::Again { transparent: false, .. }) {
            return (decision, None);
        }
        match self.retry() {
            Some(place) => (decision, Some(place)),
            None => (Decision::Stop(Why::Budget), None),
        }
    }

    /// Takes a place for one retry, if there is one.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        let limit = self.limit();
        let take = |retries: u64| (retries < limit).then_some(retries + 1);
        let taken = self.0.retries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| Retry(Arc::clone(&self.0)))
    }

    /// Retries that may be in flight with the calls of now.
    #[must_use]
    pub fn limit(&self) -> u64 {
        let (percent, least) = (self.0.percent.load(Ordering::Relaxed), self.0.least.load(Ordering::Relaxed));
        (self.calls().saturating_mul(percent) / 100).max(least)
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Retries in flight.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}
