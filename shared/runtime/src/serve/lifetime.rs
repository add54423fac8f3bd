//! How long a connection lives: plain decisions, with the clock passed in.
//!
//! It is open until it is old or draining begins. An old one gets GOAWAY, and its streams have a grace to end by
//! themselves (gRFC A9); draining has a deadline of its own, which its owner keeps. Then its streams are ended, and a
//! moment later it is dropped, whatever it still does.

use std::time::{Duration, Instant};

use crate::config::Lifecycle;

/// How long what ends the streams may take to be sent to a client that reads slowly.
const LINGER: Duration = Duration::from_secs(5);
/// How much ages differ, so that the connections of many clients, made together, do not end together (gRFC A9).
const JITTER: f64 = 0.1;

/// The next thing to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is old: take what comes on it as its last.
    Retire,
    /// Take nothing new on it, at once.
    Close,
    /// End its streams.
    End,
    /// Drop it.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Retired,
    Closing,
    Ending,
}

/// The life of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    phase: Phase,
    grace: Duration,
    due: Option<Instant>,
}

impl Lifetime {
    /// Of a connection made now. `random` is from 0 to 1.
    pub(super) fn new(lifecycle: &Lifecycle, now: Instant, random: f64) -> Self {
        let age = lifecycle.max_connection_age.mul_f64(JITTER.mul_add(2.0 * random - 1.0, 1.0));
        let due = if age.is_zero() { None } else { now.checked_add(age) };
        Self { phase: Phase::Open, grace: lifecycle.max_connection_grace, due }
    }

    /// When [`due`](Self::due) is next; `None` when time alone changes nothing.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.due
    }

    /// The time of [`next`](Self::next) has come.
    pub(super) fn due(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Retired;
                self.due = now.checked_add(self.grace);
                Step::Retire
            }
            Phase::Retired | Phase::Closing => self.end(now),
            Phase::Ending => Step::Drop,
        }
    }

    /// Draining has begun. An old connection keeps the end of its grace.
    pub(super) fn drain(&mut self) -> Option<Step> {
        if self.phase >= Phase::Closing {
            return None;
        }
        if self.phase == Phase::Open {
            self.due = None;
        }
        self.phase = Phase::Closing;
        Some(Step::Close)
    }

    /// The time for its streams is over.
    pub(super) fn end(&mut self, now: Instant) -> Step {
        self.phase = Phase::Ending;
        self.due = now.checked_add(LINGER);
        Step::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifecycle(age: u64, grace: u64) -> Lifecycle {
        Lifecycle {
            max_connection_age: Duration::from_secs(age),
            max_connection_grace: Duration::from_secs(grace),
            ..Lifecycle::default()
        }
    }

    #[test]
    fn an_old_connection_retires_then_ends_then_goes() {
        let start = Instant::now();
        let mut life = Lifetime::new(&lifecycle(100, 10), start, 0.5);
        let old = life.next().unwrap();
        assert_eq!(old - start, Duration::from_secs(100));
        assert_eq!(life.due(old), Step::Retire);
        let over = life.next().unwrap();
        assert_eq!(over - old, Duration::from_secs(10));
        assert_eq!(life.due(over), Step::End);
        assert_eq!(life.next().unwrap() - over, LINGER);
        assert_eq!(life.due(over + LINGER), Step::Drop);
    }

    #[test]
    fn ages_differ_by_a_tenth_and_zero_is_never() {
        let now = Instant::now();
        let age = |random| Lifetime::new(&lifecycle(100, 10), now, random).next().unwrap() - now;
        assert_eq!((age(0.0), age(1.0)), (Duration::from_secs(90), Duration::from_secs(110)));
        assert_eq!(Lifetime::new(&lifecycle(0, 10), now, 0.5).next(), None);
        let longest = Lifetime::new(&lifecycle(u64::MAX / 4, 10), now, 1.0).next();
        assert!(longest.is_none_or(|due| due > now), "no time is too long");
    }

    #[test]
    fn draining_closes_once_and_waits_for_its_owner() {
        let now = Instant::now();
        let mut life = Lifetime::new(&lifecycle(100, 10), now, 0.5);
        assert_eq!(life.drain(), Some(Step::Close));
        assert_eq!((life.drain(), life.next()), (None, None));
        assert_eq!(life.end(now), Step::End);
    }

    #[test]
    fn draining_does_not_lengthen_the_grace_of_an_old_connection() {
        let now = Instant::now();
        let mut life = Lifetime::new(&lifecycle(100, 10), now, 0.5);
        life.due(now);
        assert_eq!(life.drain(), Some(Step::Close), "what retired may still take calls");
        assert_eq!(life.next(), now.checked_add(Duration::from_secs(10)));
    }
}
