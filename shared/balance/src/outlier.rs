//! Passive ejection: takes a backend out of rotation by how its calls end, decided for small fleets.
//!
//! Statistics over a fleet, such as Envoy's and gRFC A50's success-rate deviation, need five hosts with a hundred calls
//! each; two to four replicas never have them. So each backend is judged by itself, by failures in a row and by the
//! exact success rate of its last seconds, and the fleet only says how many may be out at a time.
//!
//! What active checks find is no input here: a check that passes does not bring an ejected backend back, since checks
//! often miss what calls meet. Only a call does, one probe after the ejection's time.

mod detector;
mod window;

use std::time::Duration;

pub use detector::{Admission, Detector, State};

use crate::retry::part;

/// Ejections last no longer than this, whatever is configured.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// When to eject, for how long, and how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Hard failures in a row that trip; 0 turns this off. Default 5.
    pub consecutive_failures: u32,
    /// The success rate, 0 to 1, below which it trips; 0 turns this off. Default 0.80. An overloaded answer is half a
    /// success.
    pub success_rate_below: f64,
    /// Calls within the window, below which the rate says nothing. Default 20.
    pub min_calls: u32,
    /// The window of the success rate, in ten buckets; also the time in rotation that makes the next ejection one step
    /// shorter. Default 10 s, at least 10 ms.
    pub window: Duration,
    /// The first ejection's time; the `n`th in close succession takes `n` times as long. Default 5 s.
    pub base_ejection: Duration,
    /// The longest ejection, before the jitter. Default 60 s.
    pub max_ejection: Duration,
    /// How many backends of a pool may be out at a time, in percent, rounded down, but one of two or more. Default 50.
    pub max_ejected_percent: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            success_rate_below: 0.80,
            min_calls: 20,
            window: Duration::from_secs(10),
            base_ejection: Duration::from_secs(5),
            max_ejection: Duration::from_secs(60),
            max_ejected_percent: 50,
        }
    }
}

impl Settings {
    /// Whether one more backend may be ejected, of `total` that would be in rotation if none were (the ejected ones
    /// count, unhealthy and draining ones do not) and `ejected` that are out (probed ones count). Never the last one.
    ///
    /// The answer holds as long as both numbers do: ask and eject in one critical section per pool.
    #[must_use]
    pub const fn may_eject(&self, total: usize, ejected: usize) -> bool {
        let share = total as u128 * self.max_ejected_percent as u128 / 100;
        let most = if share == 0 { 1 } else { share };
        (ejected as u128) < most && total.saturating_sub(ejected) >= 2
    }

    /// How long the `n`th ejection in close succession lasts: `n` times the base, at most the longest, ±10 % so that
    /// backends that failed together do not return together. `random` is any number, each equally likely.
    #[must_use]
    pub fn ejection_time(&self, n: u32, random: u32) -> Duration {
        let time = self.base_ejection.saturating_mul(n).min(self.max_ejection).min(LONGEST);
        time - time / 10 + part(time / 5, random)
    }

    /// Whether a further step would still make ejections longer.
    fn grows(&self, n: u32) -> bool {
        self.base_ejection.saturating_mul(n) < self.max_ejection
    }
}

/// What a backend was found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// Too many hard failures in a row.
    ConsecutiveFailures,
    /// Too low a success rate.
    SuccessRate,
}

impl Trip {
    /// As a label for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
        }
    }
}

#[cfg(test)]
mod tests;
