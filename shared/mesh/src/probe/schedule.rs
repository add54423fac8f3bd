//! When a backend is checked next. Pure: the clock and the chance are parameters.

use std::time::{Duration, Instant};

/// The pause in transition, unless the interval is shorter: a backend that is down, or may be.
pub(super) const FAST: Duration = Duration::from_millis(500);
/// The pause after the first failure; it doubles with each further one, up to [`FAST`].
pub(super) const FIRST: Duration = Duration::from_millis(50);
/// How long checks must have passed for a failure to count as the first one again. A server that ends every health
/// stream soon after it began would otherwise be asked without a pause.
const CALM: Duration = Duration::from_secs(10);

/// The checks of one backend over time.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    interval: Duration,
    failing: bool,
    failures: u32,
    passing_since: Option<Instant>,
}

impl Schedule {
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, failing: false, failures: 0, passing_since: None }
    }

    /// A check passed.
    pub(super) fn passed(&mut self, now: Instant) {
        self.failing = false;
        self.passing_since.get_or_insert(now);
    }

    /// A check failed.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.passing_since.take().is_some_and(|since| now.saturating_duration_since(since) >= CALM) {
            self.failures = 0;
        }
        self.failing = true;
        self.failures = self.failures.saturating_add(1);
    }

    /// How long after the last check the next one is due. `settled` says that the backend is healthy, `chance` is drawn
    /// from 0 to 1: ±10 %, so that the checks of many gateways do not come together.
    pub(super) fn pause(&self, settled: bool, chance: f64) -> Duration {
        let fast = self.interval.min(FAST);
        let pause = match (self.failing, settled) {
            (true, _) => FIRST.saturating_mul(1 << (self.failures.clamp(1, 16) - 1)).min(fast),
            (false, true) => self.interval,
            (false, false) => fast,
        };
        pause.mul_f64(chance.mul_add(0.2, 0.9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(results: &str, settled: bool) -> Duration {
        let (mut schedule, mut now) = (Schedule::new(Duration::from_secs(30)), Instant::now());
        for result in results.chars() {
            match result {
                '+' => schedule.passed(now),
                '-' => schedule.failed(now),
                _ => now += CALM,
            }
        }
        schedule.pause(settled, 0.5)
    }

    #[test]
    fn a_settled_backend_is_asked_every_interval_and_another_one_sooner() {
        assert_eq!(after("+", true), Duration::from_secs(30));
        assert_eq!(after("+", false), FAST, "it passes, but not often enough yet");
        assert_eq!(after("+-", true), FIRST, "it may be down");
        assert_eq!(after("+--", false), FIRST * 2);
        assert_eq!(after("+----------------------------------", false), FAST);
    }

    #[test]
    fn only_a_calm_while_forgets_failures() {
        assert_eq!(after("-+-+-", true), FIRST * 4);
        assert_eq!(after("-+-+ -", true), FIRST);
    }

    #[test]
    fn a_short_interval_bounds_every_pause() {
        let mut schedule = Schedule::new(Duration::from_millis(10));
        schedule.failed(Instant::now());
        assert_eq!(schedule.pause(false, 1.0), Duration::from_millis(11));
        schedule.passed(Instant::now());
        assert_eq!(schedule.pause(false, 0.0), Duration::from_millis(9));
    }
}
