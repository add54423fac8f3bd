//! How long to wait before trying again.

use std::time::Duration;

/// Exponential, with jitter: so that those who were cut off together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first repetition, at most.
    pub base: Duration,
    /// Before any repetition, at most.
    pub max: Duration,
}

impl Default for Backoff {
    /// 100 ms, at most 2 s: a restarted gateway is back within a second or two.
    fn default() -> Self {
        Self { base: Duration::from_millis(100), max: Duration::from_secs(2) }
    }
}

impl Backoff {
    /// How long to wait before repetition `attempt`, from 0: between half and the whole of `base * 2^attempt`, or of
    /// `max` where that is less. `roll` is the chance, from 0 to 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, roll: f64) -> Duration {
        let whole = self.base.saturating_mul(2_u32.saturating_pow(attempt)).min(self.max);
        whole.mul_f64(0.5 + 0.5 * roll.clamp(0.0, 1.0))
    }

    /// Waits before repetition `attempt`, at least as long as the other side asked for.
    pub(crate) async fn pause(&self, attempt: u32, asked: Option<Duration>) {
        let delay = self.delay(attempt, fastrand::f64());
        tokio::time::sleep(asked.map_or(delay, |asked| delay.max(asked.min(self.max)))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_most_and_keep_half() {
        let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(2) };
        let whole = |attempt| backoff.delay(attempt, 1.0).as_millis();
        assert_eq!([0, 1, 2, 4, 5, 40, u32::MAX].map(whole), [100, 200, 400, 1600, 2000, 2000, 2000]);
        assert_eq!(backoff.delay(1, 0.0).as_millis(), 100);
        for attempt in 0..40 {
            let delay = backoff.delay(attempt, fastrand::f64());
            assert!(delay * 2 >= backoff.delay(attempt, 1.0) && delay <= backoff.max);
        }
    }
}
