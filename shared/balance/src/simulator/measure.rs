//! What a replay shows.

use std::{sync::Arc, time::Duration};

use super::Served;
use crate::Backend;

/// What came of a replay, without its warm-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Per machine, in their order.
    pub shares: Vec<Share>,
    /// Half of the answered calls took at most this long.
    pub p50: Duration,
    /// 99 of 100 answered calls took at most this long.
    pub p99: Duration,
    /// Calls that failed or timed out.
    pub errors: u64,
    /// Calls that nobody was given: nobody was healthy.
    pub unhealthy: u64,
    /// Calls that nobody was given: nobody had room.
    pub full: u64,
    /// The most loaded machine's time-weighted in flight per weight / the mean of all. 1 is a perfect spread.
    pub max_over_mean: f64,
    /// The time-weighted number of all calls in flight.
    pub in_flight: f64,
    /// Calls still counted when all had ended: not 0 is a leak.
    pub left: u64,
}

/// What one machine got.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Its name in the pool.
    pub address: String,
    /// Calls given to it.
    pub calls: u64,
    /// Of all that were given to anybody, 0 to 1.
    pub share: f64,
    /// Calls that it failed.
    pub errors: u64,
    /// Time-weighted in flight / weight.
    pub load: f64,
}

#[derive(Debug)]
pub(super) struct Measure {
    warm_up: Duration,
    until: Duration,
    calls: Vec<u64>,
    errors: Vec<u64>,
    /// In flight × seconds, and the same / weight.
    load: Vec<f64>,
    in_flight: f64,
    seconds: f64,
    latencies: Vec<Duration>,
    unhealthy: u64,
    full: u64,
    /// When the last call came: what runs out after it is not the policy's doing.
    last_arrival: Duration,
}

impl Measure {
    pub(super) fn new(machines: usize, warm_up: Duration, last_arrival: Duration) -> Self {
        Self {
            warm_up,
            until: warm_up,
            calls: vec![0; machines],
            errors: vec![0; machines],
            load: vec![0.0; machines],
            in_flight: 0.0,
            seconds: 0.0,
            latencies: Vec::new(),
            unhealthy: 0,
            full: 0,
            last_arrival,
        }
    }

    /// Time passes to `at`, with the counts as they are.
    pub(super) fn pass(&mut self, at: Duration, backends: &[Arc<Backend>]) {
        let seconds = at.min(self.last_arrival).saturating_sub(self.until).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        self.until = at;
        self.seconds += seconds;
        for backend in backends {
            let Some(load) = super::index(backend.address()).and_then(|at| self.load.get_mut(at)) else {
                continue;
            };
            let in_flight = backend.in_flight() as f64;
            *load += in_flight / f64::from(backend.weight()) * seconds;
            self.in_flight += in_flight * seconds;
        }
    }

    pub(super) fn picked(&mut self, at: Duration, machine: usize) {
        if at >= self.warm_up {
            self.calls[machine] += 1;
        }
    }

    pub(super) fn refused(&mut self, at: Duration, full: bool) {
        if at >= self.warm_up {
            *if full { &mut self.full } else { &mut self.unhealthy } += 1;
        }
    }

    pub(super) fn ended(&mut self, came: Duration, at: Duration, machine: usize, failed: bool) {
        if came < self.warm_up {
            return;
        }
        if failed {
            self.errors[machine] += 1;
        } else {
            self.latencies.push(at.saturating_sub(came));
        }
    }

    pub(super) fn report(self, left: u64) -> Report {
        let loads = self.load.iter().map(|load| load / self.seconds.max(f64::MIN_POSITIVE));
        let shares = loads.enumerate().map(|(machine, load)| Share {
            address: super::address(machine),
            calls: self.calls[machine],
            share: 0.0,
            errors: self.errors[machine],
            load,
        });
        Report {
            unhealthy: self.unhealthy,
            full: self.full,
            in_flight: self.in_flight / self.seconds.max(f64::MIN_POSITIVE),
            left,
            ..summarise(shares.collect(), self.latencies)
        }
    }
}

/// What was measured when calls were served, in their order, by machines of those weights.
pub(super) fn observed(calls: &[Served], weights: &[u32]) -> Report {
    let last = calls.last().map_or(Duration::ZERO, |call| call.at);
    let seconds = last.as_secs_f64().max(f64::MIN_POSITIVE);
    let mut in_flight = vec![0.0; weights.len()];
    let empty =
        |machine| Share { address: super::address(machine), calls: 0, share: 0.0, errors: 0, load: 0.0 };
    let mut shares: Vec<Share> = (0..weights.len()).map(empty).collect();
    let mut latencies = Vec::with_capacity(calls.len());
    for call in calls {
        let share = &mut shares[call.machine];
        share.calls += 1;
        in_flight[call.machine] += call.took.min(last - call.at).as_secs_f64() / seconds;
        if call.failed {
            share.errors += 1;
        } else {
            latencies.push(call.took);
        }
    }
    for ((share, in_flight), weight) in shares.iter_mut().zip(&in_flight).zip(weights) {
        share.load = in_flight / f64::from((*weight).max(1));
    }
    Report { in_flight: in_flight.iter().sum(), ..summarise(shares, latencies) }
}

/// What follows from the counts and the times of the answered calls.
fn summarise(mut shares: Vec<Share>, mut latencies: Vec<Duration>) -> Report {
    latencies.sort_unstable();
    let quantile = |percent: usize| {
        let last = latencies.len().saturating_sub(1);
        latencies.get(last * percent / 100).copied().unwrap_or_default()
    };
    let all: u64 = shares.iter().map(|share| share.calls).sum();
    for share in &mut shares {
        share.share = share.calls as f64 / all.max(1) as f64;
    }
    let mean = shares.iter().map(|share| share.load).sum::<f64>() / shares.len().max(1) as f64;
    let most = shares.iter().map(|share| share.load).fold(0.0, f64::max);
    Report {
        p50: quantile(50),
        p99: quantile(99),
        errors: shares.iter().map(|share| share.errors).sum(),
        unhealthy: 0,
        full: 0,
        max_over_mean: if mean > 0.0 { most / mean } else { 1.0 },
        in_flight: 0.0,
        left: 0,
        shares,
    }
}
