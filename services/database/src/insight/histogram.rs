//! A histogram of durations with fixed buckets, written without locks.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets in microseconds; one more bucket takes the rest.
pub const BOUNDS_MICROS: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];
const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// Counts durations.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    pub(super) fn record(&self, micros: u64) {
        self.buckets[BOUNDS_MICROS.partition_point(|bound| *bound < micros)].fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Snapshot {
        Snapshot { counts: std::array::from_fn(|index| self.buckets[index].load(Relaxed)) }
    }
}

/// A histogram as it stood at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many fell into each bucket alone; the last one is unbounded.
    pub counts: [u64; BUCKETS],
}

impl Snapshot {
    /// The duration that a share of all stays below, interpolated within its bucket.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, share: f64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        let rank = (total as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            if below + count >= rank {
                let low = if index == 0 { 0 } else { BOUNDS_MICROS[index - 1] };
                let high = BOUNDS_MICROS.get(index).copied().unwrap_or(low);
                let inside = (rank - below) as f64 / (*count).max(1) as f64;
                return Duration::from_micros(low + ((high - low) as f64 * inside) as u64);
            }
            below += count;
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_fall_into_the_right_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), Duration::ZERO);
        for micros in 0..100 {
            histogram.record(if micros < 98 { 150 } else { 30_000 });
        }
        let read = histogram.read();
        assert!((100..=200).contains(&read.quantile(0.5).as_micros()));
        assert!((20_000..=50_000).contains(&read.quantile(0.99).as_micros()));
        histogram.record(u64::MAX);
        assert_eq!(histogram.read().counts[BUCKETS - 1], 1);
    }
}
