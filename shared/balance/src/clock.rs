//! Time as the counters keep it: whole nanoseconds since their pool was made, which fit an atomic.

use std::time::{Duration, Instant};

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// How much later the stamp of another thread may be.
const LEAD_MILLIS: u32 = 60_000;

/// When a pool was made. All its backends count from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(Instant);

impl Epoch {
    pub(crate) const fn new(now: Instant) -> Self {
        Self(now)
    }

    /// The time it began.
    pub(crate) const fn start(self) -> Instant {
        self.0
    }

    /// A time before the epoch counts as the epoch.
    pub(crate) fn moment(self, now: Instant) -> Moment {
        let since = now.saturating_duration_since(self.0);
        let nanos =
            since.as_secs().saturating_mul(NANOS_PER_SECOND).saturating_add(since.subsec_nanos().into());
        Moment(nanos.saturating_add(1))
    }
}

/// A point in time, in nanoseconds since the epoch, counted from 1: 0 is free to mean never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// A short form for values that are packed with their time: milliseconds, which wrap after 49 days.
    pub(crate) const fn stamp(self) -> Stamp {
        Stamp((self.0 / NANOS_PER_MILLI) as u32)
    }
}

/// Milliseconds since the epoch, wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u32);

impl Stamp {
    /// How long ago it was, up to 49 days. A stamp of another thread may be a little later than `now`, and then is new.
    pub(crate) fn age(self, now: Self) -> Duration {
        Duration::from_millis(self.age_millis(now).into())
    }

    /// [`age`](Self::age) in milliseconds.
    pub(crate) fn age_millis(self, now: Self) -> u32 {
        let age = now.0.wrapping_sub(self.0);
        if age > u32::MAX - LEAD_MILLIS { 0 } else { age }
    }
}

/// A number with the time it was true, in one atomic word: readers never see one without the other.
pub(crate) const fn pack(value: f32, stamp: Stamp) -> u64 {
    (value.to_bits() as u64) << 32 | stamp.0 as u64
}

/// The opposite of [`pack`].
pub(crate) const fn unpack(word: u64) -> (f32, Stamp) {
    (f32::from_bits((word >> 32) as u32), Stamp(word as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_their_wrap_and_a_clock_that_is_a_little_behind() {
        assert_eq!(Stamp(u32::MAX - 1).age_millis(Stamp(3)), 5);
        assert_eq!(Stamp(10).age_millis(Stamp(7)), 0);
        let days = 30 * 24 * 3600 * 1000;
        assert_eq!(Stamp(7).age_millis(Stamp(7 + days)), days, "old is not new");
        assert_eq!(Stamp(7).age(Stamp(10)), Duration::from_millis(3));
    }

    #[test]
    fn a_packed_value_comes_back_with_its_time() {
        let (value, stamp) = unpack(pack(1.5, Stamp(77)));
        assert_eq!((value.to_bits(), stamp), (1.5_f32.to_bits(), Stamp(77)));
    }

    #[test]
    fn moments_count_from_the_epoch_and_never_before() {
        let start = Instant::now();
        let epoch = Epoch::new(start + Duration::from_secs(1));
        assert_eq!(epoch.moment(start), Moment(1));
        assert_eq!(epoch.moment(start + Duration::from_secs(3)), Moment(2_000_000_001));
        assert_eq!(Moment(2_000_999_999).stamp(), Stamp(2000));
    }
}
