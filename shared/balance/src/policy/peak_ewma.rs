//! Peak EWMA: the expected wait, from a latency average that rises at once and falls slowly.
//!
//! Finagle's and linkerd's algorithm. A sample above the average replaces it; one below is averaged in by the time
//! since the last sample, `e^(-age / 10 s)`. The average also fades by the same law while no sample comes, so that a
//! backend that was slow is tried again. Before its first sample a backend counts as 30 ms. A failure is a sample of
//! 5 s, whatever it took (linkerd's load biaser): a backend that fails fast looks fast otherwise and attracts all calls.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    clock::{Moment, Stamp, pack, unpack},
    contest::{Contest, Picked},
    policy::least,
};

/// How fast samples are forgotten.
const DECAY_MILLIS: f64 = 10_000.0;
/// What a backend is taken for before its first sample, in seconds.
const SEED: f32 = 0.030;
/// The least average, in seconds: below it backends are equally fast, and in flight decides.
const FLOOR: f32 = 1e-6;

/// Picks the least expected wait.
pub(crate) fn pick(contest: &mut Contest<'_>) -> Option<Picked> {
    let at = contest.rules.at;
    least::pick(contest, |backend| backend.expected_latency(at))
}

/// The average of one backend: seconds and the time of the last sample, in one word. 0 before anything is known.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

/// A mark in the lowest bit of the seconds: seeded, not sampled.
const SEEDED: u64 = 1 << 32;

impl Latency {
    pub(crate) fn sample(&self, took: Duration, at: Moment) {
        self.update(took.as_secs_f32(), at.stamp());
    }

    fn update(&self, sample: f32, now: Stamp) {
        let averaged = |word: u64| {
            let (average, last) = unpack(word);
            let age = last.age_millis(now);
            if word == 0 || is_seed(word) || sample >= average {
                return Some(pack(sample.max(FLOOR), now) & !SEEDED);
            }
            let kept = fade(age);
            let next = f64::from(average) * kept + f64::from(sample) * (1.0 - kept);
            // A sample of the same millisecond, or one that is late, moves nothing.
            Some(pack((next as f32).max(FLOOR), if age == 0 { last } else { now }) & !SEEDED)
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, averaged);
    }

    /// What a call is expected to take, in seconds.
    #[inline]
    pub(crate) fn expected(&self, at: Moment) -> f64 {
        let word = self.0.load(Ordering::Relaxed);
        if word == 0 {
            self.seed(at);
            return SEED.into();
        }
        faded(word, at)
    }

    /// The average; `None` before the first sample.
    pub(crate) fn average(&self, at: Moment) -> Option<Duration> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0 && !is_seed(word)).then(|| Duration::from_secs_f64(faded(word, at)))
    }

    /// A seed fades too: a new backend among very fast ones gets its first call soon.
    #[cold]
    fn seed(&self, at: Moment) {
        let seed = pack(SEED, at.stamp()) | SEEDED;
        let _ = self.0.compare_exchange(0, seed, Ordering::Relaxed, Ordering::Relaxed);
    }
}

const fn is_seed(word: u64) -> bool {
    word & SEEDED != 0
}

#[inline]
fn faded(word: u64, at: Moment) -> f64 {
    let (average, last) = unpack(word);
    (f64::from(average) * fade(last.age_millis(at.stamp()))).max(FLOOR.into())
}

/// `e^(-age / decay)`, within 0.03 %. Every pick needs it for every backend, and libm takes longer than all the rest.
#[inline]
fn fade(age_millis: u32) -> f64 {
    let exponent = f64::from(age_millis) * (-std::f64::consts::LOG2_E / DECAY_MILLIS);
    if exponent < -64.0 {
        return 0.0;
    }
    let whole = exponent as i32;
    let rest = exponent - f64::from(whole); // -1 to 0
    // The series of 2^rest.
    let fraction = 1.0
        + rest
            * (std::f64::consts::LN_2
                + rest
                    * (0.240_226_507
                        + rest * (0.055_504_109 + rest * (0.009_618_129 + rest * 0.001_333_356))));
    fraction * f64::from_bits(((1023 + whole) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verdict::PENALTY;

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    fn millis(latency: &Latency, now: u64) -> f64 {
        latency.expected(at(now)) * 1000.0
    }

    #[test]
    fn it_rises_at_once_and_falls_by_the_age_of_the_sample_before() {
        let latency = Latency::default();
        assert!((millis(&latency, 0) - 30.0).abs() < 0.01, "the seed");
        assert_eq!(latency.average(at(0)), None, "which is no sample");
        latency.sample(Duration::from_millis(10), at(1));
        assert!((millis(&latency, 1) - 10.0).abs() < 0.01, "the first sample replaces it");
        latency.sample(Duration::from_millis(100), at(2));
        assert!((millis(&latency, 2) - 100.0).abs() < 0.1, "a peak");
        latency.sample(Duration::from_millis(10), at(10_002));
        let expected = 100.0 / std::f64::consts::E + 10.0 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((millis(&latency, 10_002) - expected).abs() < 0.1);
        assert!(
            (millis(&latency, 20_002) - expected / std::f64::consts::E).abs() < 0.1,
            "it fades alone too"
        );
        assert!((millis(&latency, 600_000) - 0.001).abs() < 1e-9, "to the floor");
    }

    #[test]
    fn a_failure_counts_as_slow_however_fast_it_was() {
        let latency = Latency::default();
        latency.sample(Duration::from_millis(1), at(5));
        latency.sample(PENALTY, at(6));
        latency.sample(Duration::from_millis(1), at(7));
        assert!(millis(&latency, 7) > 4900.0);
    }

    proptest! {
        #[test]
        fn the_fast_exponential_is_close(age in 0_u32..400_000) {
            let exact = (-f64::from(age) / DECAY_MILLIS).exp();
            prop_assert!((fade(age) - exact).abs() <= exact * 3e-4, "{} {exact}", fade(age));
        }

        #[test]
        fn it_stays_within_its_samples(samples in prop::collection::vec((1_u64..5000, 0_u64..3000), 1..60)) {
            let latency = Latency::default();
            let mut now = 0;
            for (took, wait) in &samples {
                now += wait;
                latency.sample(Duration::from_millis(*took), at(now));
                prop_assert!(millis(&latency, now) >= *took as f64 * 0.99 * fade(1), "never below the last sample");
            }
            let most = samples.iter().map(|(took, _)| *took).max().unwrap_or_default();
            prop_assert!(millis(&latency, now) <= most as f64 * 1.001);
        }
    }
}
