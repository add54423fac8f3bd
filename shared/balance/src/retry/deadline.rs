//! Until when a call may take, and whether it is worth beginning.

use std::time::{Duration, Instant};

use crate::verdict::Whose;

/// A route's limits on the time of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For calls that ask for nothing; `None` is no limit, which suits long streams.
    pub default: Option<Duration>,
    /// For all calls, whatever they ask for; `None` is no limit.
    pub max: Option<Duration>,
}

/// The end of a call's time, the retries and waits included; or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
    whose: Whose,
}

impl Deadline {
    /// Of a call that came in at `now` and asked for `asked` (`grpc-timeout`).
    #[must_use]
    pub fn new(asked: Option<Duration>, limits: Limits, now: Instant) -> Self {
        let wanted = asked.or(limits.default);
        let (time, whose) = match (wanted, limits.max) {
            (Some(wanted), Some(max)) if wanted > max => (Some(max), Whose::Route),
            (None, max) => (max, Whose::Route),
            (wanted, _) => (wanted, if asked.is_some() { Whose::Caller } else { Whose::Route }),
        };
        // A time beyond what the clock can hold never comes.
        Self { at: time.and_then(|time| now.checked_add(time)), whose }
    }

    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self { at: None, whose: Whose::Route }
    }

    /// When it is; `None` is never.
    #[must_use]
    pub const fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Who set it.
    #[must_use]
    pub const fn whose(&self) -> Whose {
        self.whose
    }

    /// What remains, to be sent on; zero when it is over, `None` without a deadline.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(now))
    }

    /// Whether time is left after a wait. A call that is expected to wait longer than it has is refused at once: it
    /// would take a place in the queue and answer nobody.
    #[must_use]
    pub fn leaves_room(&self, wait: Duration, now: Instant) -> bool {
        self.remaining(now).is_none_or(|remaining| wait < remaining)
    }
}
