//! A trace of calls as they were served, made into a scenario.
//!
//! What a trace cannot tell is assumed. How long a call takes elsewhere goes by how fast the backends were on the whole:
//! the median of what each answered, beside the median of all. A call that failed fails wherever it goes.

use std::time::Duration;

use super::{Arrival, Machine, Report, Scenario, measure};
use crate::Settings;

/// Fewer answers than this say nothing of how fast a backend is.
const MIN_SAMPLES: usize = 20;
/// No call of a trace takes longer, whatever its log says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// No backend is taken to be faster or slower than all together by more than this.
const MOST_UNEVEN: f64 = 1000.0;

/// A call as it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// When it came, from any point common to all.
    pub at: Duration,
    /// From then to its last byte.
    pub took: Duration,
    /// Who served it: an index into the weights of the trace.
    pub machine: usize,
    /// What [`Policy::Rendezvous`](crate::Policy::Rendezvous) goes by.
    pub key: Option<u64>,
    /// Whether it failed.
    pub failed: bool,
}

/// Calls as they were served, by the time they came.
#[derive(Clone, Debug)]
pub struct Trace {
    calls: Vec<Served>,
    weights: Vec<u32>,
    speeds: Vec<f64>,
}

impl Trace {
    /// Takes calls in any order. Those of a machine without a weight are left out.
    #[must_use]
    pub fn new(mut calls: Vec<Served>, weights: Vec<u32>) -> Self {
        calls.retain(|call| call.machine < weights.len());
        calls.sort_by_key(|call| call.at);
        let first = calls.first().map_or(Duration::ZERO, |call| call.at);
        for call in &mut calls {
            call.at -= first;
            call.took = call.took.min(LONGEST);
        }
        let speeds = speeds(&calls, weights.len());
        Self { calls, weights, speeds }
    }

    /// The calls, the first at 0.
    #[must_use]
    pub fn calls(&self) -> &[Served] {
        &self.calls
    }

    /// How fast each machine is taken to be; 1 is as fast as all together.
    #[must_use]
    pub fn speeds(&self) -> &[f64] {
        &self.speeds
    }

    /// What was measured when the calls were served. Addresses are those of a replay.
    #[must_use]
    pub fn observed(&self) -> Report {
        measure::observed(&self.calls, &self.weights)
    }

    /// The same calls for other settings. Each machine serves `slots` calls at a time; 0 for any number, as they did
    /// when none of them was ever full.
    #[must_use]
    pub fn scenario(&self, settings: Settings, slots: usize) -> Scenario {
        let machine = |(weight, speed): (&u32, &f64)| Machine {
            weight: *weight,
            speed: *speed,
            slots,
            ..Machine::default()
        };
        let arrival = |call: &Served| Arrival {
            at: call.at,
            service: call.took.mul_f64(self.speeds[call.machine]),
            key: call.key,
            fails: call.failed,
        };
        Scenario {
            settings,
            machines: self.weights.iter().zip(&self.speeds).map(machine).collect(),
            arrivals: self.calls.iter().map(arrival).collect(),
            timeout: LONGEST.mul_f64(MOST_UNEVEN * MOST_UNEVEN),
            warm_up: Duration::ZERO,
        }
    }
}

fn speeds(calls: &[Served], machines: usize) -> Vec<f64> {
    let answered = |machine: Option<usize>| {
        let of = |call: &&Served| !call.failed && machine.is_none_or(|machine| call.machine == machine);
        calls.iter().filter(of).map(|call| call.took).collect::<Vec<_>>()
    };
    let all = median(answered(None));
    let speed = |machine| {
        let times = answered(Some(machine));
        if times.len() < MIN_SAMPLES {
            return 1.0;
        }
        let own = median(times);
        if own.is_zero() || all.is_zero() {
            return 1.0;
        }
        all.div_duration_f64(own).clamp(1.0 / MOST_UNEVEN, MOST_UNEVEN)
    };
    (0..machines).map(speed).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{Policy, simulator::replay};

    const MILLI: Duration = Duration::from_millis(1);

    fn served(at: u32, took: u32, machine: usize) -> Served {
        Served { at: MILLI * at, took: MILLI * took, machine, key: None, failed: false }
    }

    /// Two machines in turn, the second three times slower.
    fn uneven() -> Trace {
        let call = |n: u32| served(1000 + n * 10, if n.is_multiple_of(2) { 20 } else { 60 }, n as usize % 2);
        Trace::new((0..2000).rev().map(call).collect(), vec![1, 1])
    }

    #[test]
    fn calls_begin_at_zero_in_their_order_and_speeds_are_relative() {
        let trace = uneven();
        assert_eq!((trace.calls()[0].at, trace.calls()[1].at), (Duration::ZERO, 10 * MILLI));
        let [fast, slow] = trace.speeds() else { panic!("two machines") };
        assert!((fast / slow - 3.0).abs() < 1e-9, "{fast} {slow}");
    }

    #[test]
    fn what_was_observed_is_what_the_same_policy_does_again() {
        let trace = uneven();
        let observed = trace.observed();
        let settings = Settings { policy: Policy::RoundRobin, ..Settings::default() };
        let again = replay(&trace.scenario(settings, 0), Instant::now());
        assert_eq!((observed.p50, observed.p99), (again.p50, again.p99));
        assert!((observed.max_over_mean - again.max_over_mean).abs() < 0.01, "{observed:?} {again:?}");
        assert!((observed.in_flight - again.in_flight).abs() < 0.05, "{observed:?} {again:?}");
        assert_eq!(observed.shares[0].calls, again.shares[0].calls);
    }

    #[test]
    fn another_policy_sends_less_to_the_slow_one() {
        let least = replay(&uneven().scenario(Settings::default(), 0), Instant::now());
        assert!(least.shares[1].share < 0.4, "{least:?}");
        assert!(least.max_over_mean < uneven().observed().max_over_mean);
    }

    #[test]
    fn no_time_of_a_log_is_too_long() {
        let call = |n: u32| Served {
            took: if n.is_multiple_of(2) { Duration::MAX } else { Duration::from_nanos(1) },
            ..served(n, 0, n as usize % 2)
        };
        let trace = Trace::new((0..200).map(call).collect(), vec![1, 1]);
        for policy in Policy::ALL {
            let report =
                replay(&trace.scenario(Settings { policy, ..Settings::default() }, 1), Instant::now());
            assert_eq!((report.shares.iter().map(|share| share.calls).sum::<u64>(), report.left), (200, 0));
        }
    }

    #[test]
    fn failures_stay_failures_and_strangers_are_left_out() {
        let failing = Served { failed: true, ..served(5, 1, 0) };
        let trace = Trace::new(vec![served(9, 1, 7), failing, served(1, 1, 0)], vec![1]);
        assert_eq!(trace.calls().len(), 2);
        assert_eq!(trace.observed().errors, 1);
        assert_eq!(replay(&trace.scenario(Settings::default(), 0), Instant::now()).errors, 1);
        assert!(Trace::new(Vec::new(), vec![1]).observed().shares[0].share.abs() < f64::EPSILON);
    }
}
