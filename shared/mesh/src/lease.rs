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
    call: InFlight,
    pool: Arc<Pool>,
    settled: bool,
}

impl Lease {
    pub(crate) const fn new(call: InFlight, pool: Arc<Pool>) -> Self {
        Self { call, pool, settled: false }
    }

    pub(crate) const fn backend(&self) -> &Arc<Backend> {
        self.call.backend()
    }

    /// Takes what the backend says of its load.
    pub(crate) fn report_load(&self, _in_flight: u64) {}

    /// Notes how the attempt ended: once, the first verdict counts.
    pub(crate) fn settle(&mut self, ending: &Ending<'_>) -> Verdict {
        let verdict = classify(ending);
        if !self.settled {
            self.settled = true;
            let failed = verdict.blame == Blame::Failed;
            self.call.record(if failed { Outcome::Failure } else { Outcome::Success });
            self.pool.observe(&self.call, &verdict, Instant::now());
        }
        verdict
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(&Ending { client_reset: true, ..Ending::from(How::Cancelled) });
        }
    }
}
