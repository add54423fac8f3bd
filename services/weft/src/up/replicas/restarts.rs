//! When a replica that ended is started again: pure, the clock is passed in.

use std::time::{Duration, Instant};

/// The wait after a first death, so that one that dies at once does not spin.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait: what an operator who has mended the cause waits at most.
const LONGEST: Duration = Duration::from_secs(30);
/// A replica that lived so long is well: its next death is a first one again. Longer than the longest wait, so that one
/// that dies in turns stays slow.
const STEADY: Duration = Duration::from_secs(60);
/// So many starts in a row that served nothing are no accident.
const HOPELESS: u32 = 3;

/// The history of one replica.
#[derive(Debug)]
pub(super) struct Restarts {
    next: Duration,
    failed_starts: u32,
}

/// What is to be done about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How long to wait before the next start.
    pub(super) wait: Duration,
    /// Whether it keeps dying before it serves, which waiting alone will not mend.
    pub(super) hopeless: bool,
}

impl Default for Restarts {
    fn default() -> Self {
        Self { next: FIRST, failed_starts: 0 }
    }
}

impl Restarts {
    /// Judges a death: `served` says whether the replica had come so far as to take calls.
    pub(super) fn died(&mut self, started: Instant, now: Instant, served: bool) -> Verdict {
        if served && now.saturating_duration_since(started) >= STEADY {
            self.next = FIRST;
        }
        self.failed_starts = if served { 0 } else { self.failed_starts.saturating_add(1) };
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        Verdict { wait, hopeless: self.failed_starts >= HOPELESS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits in seconds after lives of so many seconds.
    fn waits(restarts: &mut Restarts, lives: &[u64], served: bool) -> Vec<u64> {
        let start = Instant::now();
        let died = |&life| restarts.died(start, start + Duration::from_secs(life), served).wait.as_secs();
        lives.iter().map(died).collect()
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut restarts = Restarts::default();
        assert_eq!(waits(&mut restarts, &[0; 8], false), [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_long_life_makes_the_next_death_a_first_one() {
        let mut restarts = Restarts::default();
        assert_eq!(waits(&mut restarts, &[5, 59, 59, 60, 3, 600], true), [1, 2, 4, 1, 2, 1]);
    }

    #[test]
    fn long_without_serving_is_no_life() {
        let mut restarts = Restarts::default();
        assert_eq!(waits(&mut restarts, &[100, 100, 100], false), [1, 2, 4]);
    }

    #[test]
    fn who_keeps_dying_at_start_is_told_apart_from_who_dies_later() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        let mut hopeless = |served| restarts.died(now, now, served).hopeless;
        assert_eq!([false; 4].map(&mut hopeless), [false, false, true, true]);
        assert_eq!([true, false, false, true, false].map(&mut hopeless), [false; 5]);
    }
}
