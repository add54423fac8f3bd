//! A call's place at a backend, from the pick to the verdict.

use std::{sync::Arc, time::Instant};

use weft_balance::{
    Backend, InFlight, Outcome,
    verdict::{Blame, Ending, How, Verdict, classify},
};

use crate::pool::Pool;

/// A call in flight to a backend. Dropped without a verdict, it was cancelled.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Until it is dropped.
    call: Option<InFlight>,
    backend: Arc<Backend>,
    pool: Arc<Pool>,
    settled: bool,
}

impl Lease {
    pub(crate) fn new(call: InFlight, pool: Arc<Pool>) -> Self {
        let backend = Arc::clone(call.backend());
        Self { call: Some(call), backend, pool, settled: false }
    }

    pub(crate) const fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The response has begun.
    pub(crate) fn first_byte(&self) {
        if let Some(call) = &self.call {
            call.first_byte(Instant::now());
        }
    }

    /// Takes what the backend says of its load.
    pub(crate) fn report_load(&self, in_flight: u64) {
        self.backend.report_load(in_flight, Instant::now());
    }

    /// Notes how the attempt ended: once, the first verdict counts.
    pub(crate) fn settle(&mut self, ending: &Ending<'_>) -> Verdict {
        let verdict = classify(ending);
        if let (false, Some(call)) = (self.settled, &self.call) {
            self.settled = true;
            // What says nothing of the backend must not end its ejection.
            match verdict.blame {
                Blame::Success | Blame::Caller => call.record(Outcome::Success),
                Blame::Failed => call.record(Outcome::Failure),
                Blame::Overloaded | Blame::Nobody => {}
            }
            self.pool.observe(call, &verdict, Instant::now());
        }
        verdict
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(&Ending { client_reset: true, ..Ending::from(How::Cancelled) });
        }
        self.call = None;
        self.pool.freed();
    }
}
