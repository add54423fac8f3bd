//! How long values live: the limits, the default and the jitter.

use std::time::Duration;

/// The shortest time to live.
pub const MIN: Duration = Duration::from_secs(1);
/// The longest time to live: 30 days.
pub const MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The part of a time to live that jitter may take off.
pub const JITTER: f64 = 0.1;

/// Why a duration is no time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TtlError {
    /// Shorter than [`MIN`].
    #[error("must be at least 1s, is {0:?}")]
    TooShort(Duration),
    /// Longer than [`MAX`].
    #[error("must be at most 30 days, is {0:?}")]
    TooLong(Duration),
}

/// Whether a duration may be a time to live.
///
/// # Errors
/// When it may not.
pub const fn check(ttl: Duration) -> Result<Duration, TtlError> {
    if ttl.as_nanos() < MIN.as_nanos() {
        return Err(TtlError::TooShort(ttl));
    }
    if ttl.as_nanos() > MAX.as_nanos() {
        return Err(TtlError::TooLong(ttl));
    }
    Ok(ttl)
}

/// Takes up to a tenth off, so that what is stored together does not expire together. `random` is uniform in 0..1.
#[must_use]
pub fn jittered(ttl: Duration, random: f64) -> Duration {
    ttl.mul_f64(1.0 - JITTER * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_limits_are_inside() {
        assert_eq!(check(MIN), Ok(MIN));
        assert_eq!(check(MAX), Ok(MAX));
        let (short, long) = (Duration::from_millis(999), MAX + Duration::from_nanos(1));
        assert_eq!(check(short), Err(TtlError::TooShort(short)));
        assert_eq!(check(long), Err(TtlError::TooLong(long)));
        assert_eq!(check(Duration::MAX), Err(TtlError::TooLong(Duration::MAX)));
    }

    #[test]
    fn values_stored_together_do_not_expire_together() {
        let expiries: std::collections::BTreeSet<_> =
            (0..1000).map(|n| jittered(Duration::from_secs(3600), f64::from(n) / 1000.0).as_secs()).collect();
        assert!(expiries.len() > 300, "{} different seconds", expiries.len());
    }

    proptest! {
        #[test]
        fn jitter_takes_off_a_tenth_at_most_and_adds_nothing(seconds in 1_u64..2_592_000, random in 0.0..1.0_f64) {
            let ttl = Duration::from_secs(seconds);
            let effective = jittered(ttl, random);
            prop_assert!(effective <= ttl);
            prop_assert!(effective >= ttl.mul_f64(0.9));
        }
    }
}
