//! One verdict on every outcome of one attempt at a call. Ejection, retries, latency penalties, metrics and the access
//! log all ask here, so that they cannot disagree: a failure that stands in the trailers counts like one in the headers.
//!
//! Three questions are answered apart from each other: who is to blame, whether the call may have been executed, and
//! what it is called. The first is decided for small fleets, where one wrong ejection is half of the capacity: what a
//! caller can provoke at will (its own errors, its own short deadline) never counts as a hard failure of a backend.

mod cause;
mod classify;
mod code;
mod pushback;

use std::time::Duration;

pub use cause::{Cause, Flag, HttpClass};
pub use classify::classify;
pub use code::{Code, Codes};
pub use pushback::{Hints, MAX_PUSHBACK, Pushback};

/// What a backend that failed is taken to cost in latency, unless it asked to be left alone for longer (after linkerd's
/// load biaser): a backend that fails fast must not look fast.
pub const PENALTY: Duration = Duration::from_secs(5);

/// How one attempt ended: what was seen of it, free of the types of any transport.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// What ended it.
    pub how: How<'a>,
    /// Response headers had arrived by then. What has answered has begun to execute, whatever is said after that.
    pub response_begun: bool,
    /// The whole request had been sent by then: all that was missing was the backend's.
    pub request_complete: bool,
    /// The client had reset its stream by then.
    pub client_reset: bool,
}

impl<'a> From<How<'a>> for Ending<'a> {
    /// Nothing of the response, all of the request, the client still there.
    fn from(how: How<'a>) -> Self {
        Self { how, response_begun: false, request_complete: true, client_reset: false }
    }
}

/// What ended an attempt.
#[derive(Clone, Copy, Debug)]
pub enum How<'a> {
    /// A whole response to a call that is not gRPC.
    Http {
        /// The status.
        status: u16,
        /// What the response says of another attempt.
        hints: Hints<'a>,
    },
    /// A whole response to a gRPC call.
    Grpc {
        /// The HTTP status.
        http_status: u16,
        /// The text of `grpc-status` and where it stood; `None` if there was none to the very end.
        status: Option<(&'a [u8], Place)>,
        /// What the response says of another attempt.
        hints: Hints<'a>,
    },
    /// The backend reset the stream.
    Reset {
        /// The error code of RFC 9113 §7.
        code: u32,
    },
    /// The connection ended after the backend had sent GOAWAY.
    GoAway {
        /// The error code of RFC 9113 §7.
        code: u32,
        /// The stream is above the last one that the backend says it may process.
        above_last_id: bool,
    },
    /// No connection came about: refused, unreachable, or the handshake failed.
    ConnectFailed,
    /// The connection was closed before any of the request was sent.
    ClosedUnsent,
    /// The connection broke after the request, or part of it, was sent.
    Broken,
    /// The backend broke the protocol, and the attempt was ended here.
    ProtocolError,
    /// A time limit of ours ran out.
    TimedOut(Timeout),
    /// The client went away: reset, or its connection closed.
    Cancelled,
    /// No backend was asked.
    Refused(Refusal),
}

/// Where `grpc-status` stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In headers that more frames followed.
    Headers,
    /// In headers that ended the stream.
    TrailersOnly,
    /// In the trailers, after headers and perhaps messages.
    Trailers,
}

/// A time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// For a connection.
    Connect,
    /// For the first byte of the response, per attempt.
    FirstByte,
    /// Between two frames of a stream.
    StreamIdle,
    /// For a stream to stay where it is.
    StreamAge,
    /// For the whole call.
    Deadline {
        /// Who had set it.
        whose: Whose,
        /// Whether the request had been sent; otherwise it was still waiting here.
        sent: bool,
    },
}

/// Who set a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The caller, by `grpc-timeout`.
    Caller,
    /// The operator, by the route's default or maximum.
    Route,
}

/// Why no backend was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No route matches.
    NoRoute,
    /// No backend is healthy.
    NoHealthyBackend,
    /// The backends' limits and the queue before them are full.
    Overflow,
    /// The caller is over its rate.
    RateLimited,
}

/// The verdict on one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happened, as a label for metrics.
    pub cause: Cause,
    /// Who is to blame.
    pub blame: Blame,
    /// Whether the call may have been executed.
    pub executed: Executed,
    /// The gRPC code of the outcome: the backend's own, or the one that stands for what happened.
    pub code: Code,
    /// What the backend asked of the next attempt; only with an outcome that is not a success.
    pub pushback: Option<Pushback>,
}

impl Verdict {
    /// The response flag of Envoy's access log, if the outcome has one: what a backend said by itself has none.
    #[must_use]
    pub const fn flag(&self) -> Option<Flag> {
        self.cause.flag()
    }

    /// The least latency to book for this attempt, so that failing fast attracts no calls: [`PENALTY`], or what the
    /// backend asked for if that is longer; `None` unless the backend failed or is overloaded.
    #[must_use]
    pub fn penalty(&self) -> Option<Duration> {
        if !matches!(self.blame, Blame::Failed | Blame::Overloaded) {
            return None;
        }
        match self.pushback {
            Some(Pushback::After(wait)) => Some(wait.max(PENALTY)),
            Some(Pushback::Never) | None => Some(PENALTY),
        }
    }
}

/// Who is to blame for an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: it worked.
    Success,
    /// The backend failed: a hard failure.
    Failed,
    /// The backend has more than it can do, or took longer than the caller gave it: a soft failure.
    Overloaded,
    /// The caller: the backend did what it should.
    Caller,
    /// Nobody, and it says nothing of the backend.
    Nobody,
}

/// Whether a call may have been executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// Never: it did not leave.
    NotSent,
    /// Never: it left, and the backend vouches that it did not look at it.
    Unprocessed,
    /// Perhaps.
    Perhaps,
    /// Yes, at least in part: the backend's application answered.
    Yes,
}

impl Executed {
    /// Whether it was certainly not executed.
    #[must_use]
    pub const fn never(self) -> bool {
        matches!(self, Self::NotSent | Self::Unprocessed)
    }
}

#[cfg(test)]
mod tests;
