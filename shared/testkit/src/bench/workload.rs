//! When calls come, and how long each takes to serve.

use std::time::Duration;

use fastrand::Rng;

/// Service times. The means of all but the first are close to 200 ms, so that a rate of 1000/s has about 200 calls in
/// flight with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Every call is answered at once.
    Instant,
    /// Every call takes 200 ms.
    Constant,
    /// 90 % take 2 ms, 10 % take 2 s; the mean is 201.8 ms.
    Bimodal,
    /// A Pareto distribution (α = 1.1) bounded to 50 ms and 5 s: mean 204.3 ms, median 93 ms, 99th percentile 2.1 s.
    HeavyTailed,
}

/// A call that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When, from the start.
    pub at: Duration,
    /// How long a backend that is well takes.
    pub service: Duration,
}

/// Poisson arrivals of a workload, without end; the same for the same seed.
#[derive(Clone, Debug)]
pub struct Schedule {
    random: Rng,
    workload: Workload,
    rate: f64,
    seconds: f64,
}

const SHAPE: f64 = 1.1;
const LEAST: f64 = 0.05;
const MOST: f64 = 5.0;

impl Workload {
    pub(super) fn draw(self, random: &mut Rng) -> Duration {
        match self {
            Self::Instant => Duration::ZERO,
            Self::Constant => Duration::from_millis(200),
            Self::Bimodal if random.f64() < 0.1 => Duration::from_secs(2),
            Self::Bimodal => Duration::from_millis(2),
            Self::HeavyTailed => {
                // By inversion of its distribution function.
                let below = random.f64() * (1.0 - (LEAST / MOST).powf(SHAPE));
                Duration::from_secs_f64(LEAST / (1.0 - below).powf(SHAPE.recip()))
            }
        }
    }
}

impl Schedule {
    /// `rate` calls per second on average.
    #[must_use]
    pub fn new(workload: Workload, rate: f64, seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), workload, rate, seconds: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.seconds -= (1.0 - self.random.f64()).ln() / self.rate;
        let at = Duration::try_from_secs_f64(self.seconds).ok()?;
        Some(Arrival { at, service: self.workload.draw(&mut self.random) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOADS: [Workload; 3] = [Workload::Constant, Workload::Bimodal, Workload::HeavyTailed];
    const CALLS: usize = 200_000;

    fn services(workload: Workload) -> Vec<f64> {
        let mut services: Vec<f64> = Schedule::new(workload, 1000.0, 7)
            .take(CALLS)
            .map(|arrival| arrival.service.as_secs_f64())
            .collect();
        services.sort_unstable_by(f64::total_cmp);
        services
    }

    fn assert_near(what: &str, value: f64, expected: f64, tolerance: f64) {
        assert!((value / expected - 1.0).abs() < tolerance, "{what} is {value}, not {expected}");
    }

    #[test]
    fn a_seed_always_gives_the_same_calls_and_another_one_others() {
        for workload in WORKLOADS {
            let calls = |seed| Schedule::new(workload, 1000.0, seed).take(1000).collect::<Vec<_>>();
            assert_eq!(calls(1), calls(1));
            assert_ne!(calls(1), calls(2));
        }
    }

    #[test]
    fn gaps_are_exponential() {
        let ats: Vec<f64> = Schedule::new(Workload::Bimodal, 500.0, 3)
            .take(CALLS)
            .map(|arrival| arrival.at.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = ats.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = gaps.iter().map(|gap| gap * gap).sum::<f64>() / gaps.len() as f64;
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
        assert_near("the mean gap", mean, 0.002, 0.02);
        // Of an exponential distribution it is twice the mean's square.
        assert_near("the mean square", square, 2.0 * 0.002 * 0.002, 0.05);
    }

    #[test]
    fn means_are_what_they_are_said_to_be() {
        for (workload, mean) in WORKLOADS.into_iter().zip([0.2, 0.2018, 0.2043]) {
            let services = services(workload);
            assert_near(&format!("{workload:?}"), services.iter().sum::<f64>() / CALLS as f64, mean, 0.02);
        }
    }

    #[test]
    fn shapes_are_what_they_are_said_to_be() {
        let bimodal = services(Workload::Bimodal);
        let slow = bimodal.iter().filter(|service| **service > 1.0).count();
        assert_near("the share of slow calls", slow as f64 / CALLS as f64, 0.1, 0.05);
        assert_eq!((bimodal[0], bimodal[CALLS - 1]), (0.002, 2.0));
        let heavy = services(Workload::HeavyTailed);
        assert!(heavy[0] >= LEAST && heavy[CALLS - 1] <= MOST, "{} to {}", heavy[0], heavy[CALLS - 1]);
        assert_near("the median", heavy[CALLS / 2], 0.0934, 0.02);
        assert_near("the 99th percentile", heavy[CALLS / 100 * 99], 2.116, 0.05);
    }
}
