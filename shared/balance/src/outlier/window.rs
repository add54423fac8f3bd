//! Exact counts over the last ten buckets of time. A decaying average would hide a burst.

use std::time::{Duration, Instant};

const BUCKETS: u64 = 10;

/// Calls and their successes, in halves: a soft failure is half a success.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) success_halves: u64,
}

impl Counts {
    /// The share of successes; 1 without calls. The division is exact enough to compare with a decimal: both are the
    /// double nearest to the same fraction.
    pub(super) fn success_rate(self) -> f64 {
        if self.calls == 0 { 1.0 } else { self.success_halves as f64 / (2 * self.calls) as f64 }
    }
}

/// Covers the bucket that runs and the nine before it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    start: Instant,
    bucket: Duration,
    newest: u64,
    buckets: [Counts; BUCKETS as usize],
}

impl Window {
    pub(super) fn new(length: Duration, start: Instant) -> Self {
        let bucket = (length / BUCKETS as u32).max(Duration::from_millis(1));
        Self { start, bucket, newest: 0, buckets: Default::default() }
    }

    pub(super) fn record(&mut self, success_halves: u64, now: Instant) {
        self.advance(now);
        let counts = &mut self.buckets[(self.newest % BUCKETS) as usize];
        counts.calls += 1;
        counts.success_halves += success_halves;
    }

    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.advance(now);
        self.buckets.iter().fold(Counts::default(), |sum, bucket| Counts {
            calls: sum.calls + bucket.calls,
            success_halves: sum.success_halves + bucket.success_halves,
        })
    }

    pub(super) fn clear(&mut self) {
        self.buckets = Default::default();
    }

    /// Empties the buckets that time has passed over. Threads read the clock before they get here, so a time may lie a
    /// little before the last one: it counts as that.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.start).as_nanos() / self.bucket.as_nanos();
        let bucket = u64::try_from(passed).unwrap_or(u64::MAX);
        for stale in (self.newest.saturating_add(1)..=bucket).take(BUCKETS as usize) {
            self.buckets[(stale % BUCKETS) as usize] = Counts::default();
        }
        self.newest = self.newest.max(bucket);
    }
}
