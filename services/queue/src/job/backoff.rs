//! How long a failed attempt waits for the next one.

use std::time::Duration;

/// Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015): uniform between nothing
/// and `min(cap, base * factor^(attempt - 1))`, so that jobs that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The most that the first retry waits.
    pub base: Duration,
    /// Growth from retry to retry, at least 1.
    pub factor: f64,
    /// The most that any retry waits.
    pub cap: Duration,
}

impl Backoff {
    /// The most that the retry after failed attempt number `attempt`, from 1, waits.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.cap).min(self.cap)
    }

    /// The wait after failed attempt number `attempt`, for `random` uniform in 0.0..1.0, and at least `floor`, which is
    /// what the other side asked for (`Retry-After`).
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64, floor: Duration) -> Duration {
        self.ceiling(attempt).mul_f64(random.clamp(0.0, 1.0)).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULT: Backoff =
        Backoff { base: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(300) };

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let seconds: Vec<u64> = (1..=11).map(|attempt| DEFAULT.ceiling(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(DEFAULT.ceiling(u32::MAX), DEFAULT.cap);
    }

    #[test]
    fn a_floor_is_honoured_beyond_the_cap() {
        let asked = Duration::from_secs(900);
        assert_eq!(DEFAULT.delay(1, 0.5, asked), asked);
    }

    proptest! {
        #[test]
        fn a_delay_stays_between_nothing_and_its_ceiling(attempt in 0u32..1000, random in 0.0f64..1.0) {
            let delay = DEFAULT.delay(attempt, random, Duration::ZERO);
            prop_assert!(delay <= DEFAULT.ceiling(attempt));
        }
    }
}
