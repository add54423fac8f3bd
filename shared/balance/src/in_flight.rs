//! The guard of a call: while it lives, the call counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::backend::{Backend, Outcome};

/// A call in flight to a backend: counted from the pick until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    backend: Arc<Backend>,
    began: Instant,
    /// Which ejection this call probes the end of; 0 if none.
    probes: u64,
    /// Until when no other call probes it.
    probed_until: u64,
    answered: AtomicBool,
}

impl InFlight {
    /// Wraps a reservation that has been counted already.
    pub(crate) const fn reserved(
        backend: Arc<Backend>,
        began: Instant,
        probes: u64,
        probed_until: u64,
    ) -> Self {
        Self { backend, began, probes, probed_until, answered: AtomicBool::new(false) }
    }

    /// The picked backend.
    #[must_use]
    pub const fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// When it was given to the backend.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// Whether it is the one call that tries a backend whose ejection is over.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probes != 0
    }

    /// The response has begun: its time becomes a latency sample, the first time this is called. A
    /// [probe](Self::is_probe), which may be a stream that goes on for hours, keeps no other call away any longer.
    pub fn first_byte(&self, now: Instant) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.backend.sample(now.saturating_duration_since(self.began), now);
            self.backend.end_probe(self.probed_until);
        }
    }

    /// The backend failed the call: the [penalty](crate::verdict::Verdict::penalty) becomes a latency sample, however
    /// fast the failure was.
    pub fn failed(&self, penalty: Duration, now: Instant) {
        self.answered.store(true, Ordering::Relaxed);
        self.backend.penalise(penalty, now);
    }

    /// Records how the call ended, apart from ending it. The success of a [probe](Self::is_probe) ends the ejection.
    pub fn record(&self, outcome: Outcome) {
        match outcome {
            Outcome::Failure => self.backend.count_failure(),
            Outcome::Success => self.backend.probe_succeeded(self.probes),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.release(self.probed_until);
    }
}
