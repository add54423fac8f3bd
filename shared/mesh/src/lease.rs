//! A call's place at a backend, from the pick to the verdict.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::Span;
use weft_balance::{
    Backend, InFlight, Outcome,
    verdict::{Blame, Ending, How, Timeout, Verdict, Whose, classify},
};

use crate::{methods::Method, metrics::Sizes, pool::Pool, replay::Progress, terms::Terms};

/// A client that cancels in the last tenth of its time, but no earlier than so long before its end, has waited in vain:
/// it counts its time from before the call came here.
const LAST_MOMENT: Duration = Duration::from_millis(50);

/// A call in flight to a backend. Dropped without a verdict, it was cancelled.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Until it is dropped.
    call: Option<InFlight>,
    backend: Arc<Backend>,
    pool: Arc<Pool>,
    deadline: Option<Instant>,
    /// Of gRPC.
    method: Option<Method>,
    sent: Progress,
    /// Whether the response has begun, and how many bytes of it have come.
    begun: bool,
    received: u64,
    /// How it ended, once that is settled.
    verdict: Option<Verdict>,
    span: Span,
}

impl Lease {
    pub(crate) fn new(call: InFlight, pool: Arc<Pool>, terms: &Terms, sent: Progress) -> Self {
        let backend = Arc::clone(call.backend());
        let method = terms.grpc.then_some(terms.method);
        if let Some(method) = method {
            pool.attempts.begun(method);
        }
        Self {
            call: Some(call),
            backend,
            pool,
            deadline: terms.deadline.at(),
            method,
            sent,
            begun: false,
            received: 0,
            verdict: None,
            span: Span::none(),
        }
    }

    /// The span of this attempt, which ends with it.
    pub(crate) fn traced(&mut self, span: Span) {
        self.span = span;
    }

    /// The span of this attempt, if it has one.
    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// So many bytes of the response have come.
    pub(crate) const fn receives(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    pub(crate) const fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// The response has begun.
    pub(crate) fn first_byte(&mut self) {
        self.begun = true;
        if let Some(call) = &self.call {
            call.first_byte(Instant::now());
        }
    }

    /// Takes what the backend says of its load.
    pub(crate) fn report_load(&self, in_flight: u64) {
        self.backend.report_load(in_flight, Instant::now());
    }

    /// Notes how the attempt ended: once, the first verdict counts.
    pub(crate) fn settle(&mut self, how: How<'_>) -> Verdict {
        let ending = self.ending(how);
        let verdict = classify(&ending);
        if let (None, Some(call)) = (self.verdict, &self.call) {
            self.verdict = Some(verdict);
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

    /// A request that its client does not finish is reset here, which looks like a failure of the connection.
    fn ending<'a>(&self, how: How<'a>) -> Ending<'a> {
        let client_reset = self.sent.has_failed() || matches!(how, How::Cancelled);
        let how = match how {
            How::Broken | How::ProtocolError | How::Reset { .. } if self.sent.has_failed() => How::Cancelled,
            how => how,
        };
        let (response_begun, request_complete) = (self.begun, self.sent.is_complete());
        Ending { how, response_begun, request_complete, client_reset }
    }

    /// How a call ended that nobody waits for any more.
    fn given_up(&self) -> How<'static> {
        let now = Instant::now();
        let began = self.call.as_ref().map_or(now, InFlight::began);
        let in_vain = self.deadline.is_some_and(|deadline| {
            let last = deadline.saturating_duration_since(began) / 10;
            deadline.saturating_duration_since(now) <= last.min(LAST_MOMENT)
        });
        if in_vain {
            How::TimedOut(Timeout::Deadline { whose: Whose::Caller, sent: true })
        } else {
            How::Cancelled
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let verdict = self.verdict.unwrap_or_else(|| self.settle(self.given_up()));
        self.span.record("rpc.response.status_code", verdict.code.as_str());
        if let (Some(method), Some(call)) = (self.method, &self.call) {
            let sizes = Sizes { sent: self.sent.sent(), received: self.received };
            self.pool.attempts.ended(method, verdict.code, call.began().elapsed(), sizes);
        }
        self.call = None;
        self.pool.freed();
    }
}

#[cfg(test)]
mod tests {
    use weft_balance::{Ask, Desired, Origin, verdict::Cause};

    use super::*;
    use crate::{
        methods::Methods,
        pool::{Protocol, Settings},
        probe::Check,
    };

    /// A call that began a second ago and may take so much longer.
    fn lease(left: Duration) -> Lease {
        let pool = Pool::new(Settings::new("pool", Protocol::Grpc, Check::None), Methods::weft());
        let (address, origin) = ("a:1".to_owned(), Origin::Config);
        pool.backends.reconcile(&[Desired { address, weight: 1, tier: 0, origin }]);
        let now = Instant::now();
        let call = pool.backends.pick(&Ask::at(now.checked_sub(Duration::from_secs(1)).unwrap())).unwrap();
        Lease::new(call, pool, &Terms::within(Some(left)), Progress::default())
    }

    fn given_up(lease: &Lease) -> (Cause, Blame) {
        let complete = Ending { request_complete: true, ..lease.ending(lease.given_up()) };
        let Verdict { cause, blame, .. } = classify(&complete);
        (cause, blame)
    }

    #[test]
    fn who_gives_up_at_the_deadline_has_waited_in_vain() {
        assert_eq!(given_up(&lease(Duration::from_secs(9))), (Cause::Cancelled, Blame::Nobody));
        assert_eq!(given_up(&lease(Duration::from_millis(80))), (Cause::Cancelled, Blame::Nobody));
        let mut late = lease(Duration::from_millis(20));
        assert_eq!(given_up(&late), (Cause::Deadline, Blame::Overloaded));
        late.first_byte();
        assert_eq!(given_up(&late), (Cause::Deadline, Blame::Nobody), "it was answered");
    }

    #[test]
    fn what_is_dropped_is_counted_once_and_ends_its_place() {
        let lease = lease(Duration::from_secs(9));
        let (pool, backend) = (Arc::clone(&lease.pool), Arc::clone(lease.backend()));
        assert_eq!(backend.in_flight(), 1);
        drop(lease);
        let cancelled = pool.tally.cancelled.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((backend.in_flight(), backend.failures(), cancelled), (0, 0, 1));
    }
}
