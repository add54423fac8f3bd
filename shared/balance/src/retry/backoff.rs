//! Waits between attempts: full jitter ("Exponential Backoff And Jitter", AWS architecture blog, 2015).

use std::time::Duration;

/// The range of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait; doubles each time. Default 25 ms.
    pub base: Duration,
    /// The longest wait of all. Default 250 ms.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The wait before repetition `repetition`, from 1: anything between nothing and the longest. `random` is any
    /// number, each equally likely.
    #[must_use]
    pub fn wait(&self, repetition: u32, random: u32) -> Duration {
        let factor = 2_u32.saturating_pow(repetition.saturating_sub(1));
        part(self.base.saturating_mul(factor).min(self.max), random)
    }
}

/// The part of `whole` that `random` is of its own range: from nothing to just below all of it.
pub(crate) fn part(whole: Duration, random: u32) -> Duration {
    let nanos = (whole.as_nanos().min(u128::from(u64::MAX)) * u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
