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
    /// Bytes of the response.
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
    pub(crate) fn settle(&mut self, how: How<'_>, response_begun: bool) -> Verdict {
        let ending = self.ending(how, response_begun);
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
    fn ending<'a>(&self, how: How<'a>, response_begun: bool) -> Ending<'a> {
        let client_reset = self.sent.has_failed() || matches!(how, How::Cancelled);
        let how = match how {
            How::Broken | How::ProtocolError | How::Reset { .. } if self.sent.has_failed() => How::Cancelled,
            how => how,
        };
        Ending { how, response_begun, request_complete: self.sent.is_complete(), client_reset }
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
        let verdict = self.verdict.unwrap_or_else(|| self.settle(self.given_up(), false));
        self.span.record("rpc.response.status_code", verdict.code.as_str());
        if let (Some(method), Some(call)) = (self.method, &self.call) {
            let sizes = Sizes { sent: self.sent.sent(), received: self.received };
            self.pool.attempts.ended(method, verdict.code, call.began().elapsed(), sizes);
        }
        self.call = None;
        self.pool.freed();
    }
}
