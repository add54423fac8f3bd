//! Load that others put on a backend, as it reports it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::{Moment, pack, unpack};

/// How long a report counts.
pub(crate) const LIFETIME: Duration = Duration::from_secs(10);

/// Calls in flight to a backend that are not ours, as of its last report.
///
/// A report fades in a straight line: of 8 foreign calls 4 are left after 5 s and none after 10 s, unless a new report
/// comes. A straight line ends, as an exponential does not, so that a backend that stops reporting is compared exactly
/// again.
#[derive(Debug, Default)]
pub(crate) struct Foreign(AtomicU64);

impl Foreign {
    pub(crate) fn report(&self, calls: u64, at: Moment) {
        self.0.store(pack(calls as f32, at.stamp()), Ordering::Relaxed);
    }

    /// What is left of the last report.
    pub(crate) fn at(&self, at: Moment) -> f64 {
        let (calls, reported) = unpack(self.0.load(Ordering::Relaxed));
        let left = 1.0 - reported.age(at.stamp()).as_secs_f64() / LIFETIME.as_secs_f64();
        f64::from(calls) * left.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_fades_in_a_straight_line_to_nothing() {
        let foreign = Foreign::default();
        let at = |seconds: u64| Moment((100 + seconds) * 1_000_000_000);
        foreign.report(8, at(0));
        let left: Vec<f64> = [0, 5, 10, 11].map(|seconds| foreign.at(at(seconds))).to_vec();
        assert_eq!(left, [8.0, 4.0, 0.0, 0.0]);
        foreign.report(2, at(11));
        assert!((foreign.at(at(11)) - 2.0).abs() < f64::EPSILON, "a new report replaces the old one");
    }
}
