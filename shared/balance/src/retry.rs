//! Whether a call is sent again after an attempt, and when.
//!
//! What was certainly never executed is sent again as a matter of course (gRFC A6, "transparent retries"). What may have
//! been executed is sent again only if its method allows that. Either kind that is not transparent needs a place in a
//! [`Budget`], so that retries cannot make an overload worse.
//!
//! ```
//! # use std::time::{Duration, Instant};
//! # use weft_balance::{retry::*, verdict::*};
//! # let (policy, budget, history) = (Policy::default(), Budget::default(), History::default());
//! # let _call = budget.call();
//! # let verdict = classify(&Ending::from(How::ConnectFailed));
//! # let deadline = Deadline::none();
//! # let attempt = Attempt { verdict: &verdict, history, backends: 3, idempotent: false, passed_on: false,
//! #     replayable: true, took: Duration::ZERO, deadline: &deadline, now: Instant::now(), random: 7 };
//! let (decision, place) = budget.claim(decide(&policy, &attempt));
//! match decision {
//!     Decision::Again { after, transparent } => {
//!         let history = history.sent_again(&verdict, transparent);
//!         // wait, send, and keep `place` until that attempt has ended
//! #       drop((after, history, place));
//!     }
//!     Decision::Stop(why) => println!("{}", why.label()),
//! }
//! ```

mod backoff;
mod budget;
mod deadline;
mod decide;
mod history;

use std::time::Duration;

pub use backoff::Backoff;
pub(crate) use backoff::part;
pub use budget::{Budget, Call, Retry};
pub use deadline::{Deadline, Limits};
pub use decide::{Attempt, decide};
pub use history::History;

use crate::verdict::{Cause, Code, Codes, Verdict};

/// Attempts that a policy can allow at most, as in gRFC A6.
pub const MOST_ATTEMPTS: u32 = 5;

/// What may be sent again, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in all, the first one included and transparent ones not. Default 3, between 1 and [`MOST_ATTEMPTS`].
    pub max_attempts: u32,
    /// Codes after which an idempotent call is sent again. Default UNAVAILABLE.
    pub codes: Codes,
    /// Whether an idempotent call is also sent again when the transport failed: reset, broken connection, no
    /// connection, no first byte in time. Default true.
    pub on_transport_failure: bool,
    /// How long an attempt at an idempotent call may take to answer with its first byte, before it is given up for
    /// another. Default none.
    pub per_try_timeout: Option<Duration>,
    /// The waits.
    pub backoff: Backoff,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            codes: Codes::default().with(Code::Unavailable),
            on_transport_failure: true,
            per_try_timeout: None,
            backoff: Backoff::default(),
        }
    }
}

/// Whether a repetition needs no place in the budget: the first one of a call whose connection broke, or whose backend
/// hangs: it let the time of an attempt go by and answered nobody else in it either (`silent`).
///
/// A replica that dies takes all its calls with it at once: a half of them where there are two, far more than any share
/// that is meant for failures in passing. They cannot make an overload worse either, since a broken connection carries
/// no second wave, and whoever is gone is found out at the next connect. One that hangs does the same; one that has too
/// much to do still answers somebody, and what it is late with needs its place.
#[must_use]
pub fn is_free(verdict: &Verdict, history: History, silent: bool) -> bool {
    let gone = match verdict.cause {
        Cause::Broken => true,
        Cause::FirstByteTimeout => silent,
        _ => false,
    };
    gone && history.number() == 1
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it again, to another backend if there is one.
    Again {
        /// After this time.
        after: Duration,
        /// It was never executed and costs nothing: neither an attempt nor a place in the budget.
        transparent: bool,
    },
    /// Pass on what there is.
    Stop(Why),
}

/// Why a call is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It succeeded.
    Succeeded,
    /// The client is gone.
    Cancelled,
    /// It was refused here, and would be again.
    Refused,
    /// Part of the response has been passed on.
    PassedOn,
    /// The request cannot be replayed: more of it has gone by than is kept.
    NotReplayable,
    /// The deadline has passed, or would before the next attempt.
    Deadline,
    /// It may have been executed, and its method is not idempotent.
    NotIdempotent,
    /// Such an outcome is not retried.
    NotRetryable,
    /// The backend asked not to, or to wait longer than a call is held.
    Pushback,
    /// All attempts are used up.
    Attempts,
    /// The budget has no place.
    Budget,
}

impl Why {
    /// As a value for the access log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::PassedOn => "passed_on",
            Self::NotReplayable => "not_replayable",
            Self::Deadline => "deadline",
            Self::NotIdempotent => "not_idempotent",
            Self::NotRetryable => "not_retryable",
            Self::Pushback => "pushback",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
        }
    }
}

#[cfg(test)]
mod tests;
