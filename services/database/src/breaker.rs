//! Leaves another service alone for a moment after it failed several times in a row: a service that is down must cost
//! latency once, not at every call.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// How long it stays open; then one call in so much time finds out.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may be made. Of the callers that ask after an opening is over, one may.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + OPEN_FOR);
                true
            }
        }
    }

    /// A call that was made ended well, or did not.
    pub(crate) fn note(&self, success: bool, now: Instant) {
        let mut state = self.state();
        if success {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.open_until = Some(now + OPEN_FOR);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_find_out() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        for success in [false, false, true, false, false] {
            breaker.note(success, start);
            assert!(breaker.allows(start));
        }
        breaker.note(false, start);
        assert!(!breaker.allows(start));
        let later = start + OPEN_FOR;
        assert!(breaker.allows(later), "one finds out");
        assert!(!breaker.allows(later), "the others wait for it");
        breaker.note(true, later);
        assert!(breaker.allows(later) && breaker.allows(later));
    }
}
