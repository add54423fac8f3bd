//! Policies under the traffic they are made for.

use super::*;
use crate::Policy;

const MILLI: Duration = Duration::from_millis(1);

/// Calls of 2 ms, and one of ten of 2 s, at random times.
fn mixed(calls: usize, every: Duration) -> Vec<Arrival> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut at = Duration::ZERO;
    let arrival = |_| {
        at += every.mul_f64(random.f64() * 2.0);
        let service = if random.u8(..10) == 0 { 2000 * MILLI } else { 2 * MILLI };
        Arrival { at, service, key: Some(random.u64(..500)), fails: false }
    };
    (0..calls).map(arrival).collect()
}

fn scenario(policy: Policy, machines: Vec<Machine>, arrivals: Vec<Arrival>) -> Scenario {
    Scenario {
        settings: Settings { policy, ..Settings::default() },
        machines,
        arrivals,
        timeout: Duration::from_secs(10),
        warm_up: Duration::from_secs(4),
    }
}

fn weighted(weights: &[u32]) -> Vec<Machine> {
    weights.iter().map(|weight| Machine { weight: *weight, ..Machine::default() }).collect()
}

#[test]
fn mixed_traffic_is_spread_by_weight() {
    let report = replay(
        &scenario(Policy::LeastConnections, weighted(&[1, 2, 4]), mixed(30_000, MILLI.mul_f64(0.8))),
        Instant::now(),
    );
    println!(
        "weights 1:2:4, 2 ms and 2 s: {:.0} in flight, max/mean {:.3}",
        report.in_flight, report.max_over_mean
    );
    assert!(report.in_flight >= 200.0, "{report:?}");
    assert!(report.max_over_mean <= 1.10, "{report:?}");
    assert_eq!((report.errors, report.unhealthy, report.full, report.left), (0, 0, 0, 0));
}

#[test]
fn a_replay_is_the_same_every_time() {
    for policy in Policy::ALL {
        let scenario = scenario(policy, weighted(&[1, 2, 4]), mixed(8_000, MILLI));
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(77));
        assert_eq!(replay(&scenario, now), replay(&scenario, later), "{policy:?}");
    }
}

#[test]
fn least_load_avoids_a_backend_that_slows_down_and_round_robin_does_not() {
    let slows = || {
        let mut machines = weighted(&[1, 1, 1, 1]);
        machines[0].changes.push((Duration::from_secs(3), Change::Speed(0.1)));
        machines
    };
    let arrivals: Vec<Arrival> =
        (0..10_000).map(|n| Arrival { at: MILLI * n, service: 20 * MILLI, ..Arrival::default() }).collect();
    let share = |policy| replay(&scenario(policy, slows(), arrivals.clone()), Instant::now()).shares[0].share;
    let (round, least, ewma) =
        (share(Policy::RoundRobin), share(Policy::LeastConnections), share(Policy::PeakEwma));
    assert!((round - 0.25).abs() < 0.01, "{round}");
    assert!(least < 0.06 && ewma < least, "{least} {ewma}");
}

#[test]
fn a_fast_failing_backend_attracts_least_load_but_not_peak_ewma() {
    let fails = || {
        let mut machines = weighted(&[1, 1, 1]);
        machines[1].changes.push((Duration::from_secs(5), Change::FailFast(MILLI)));
        machines[1].changes.push((Duration::from_secs(9), Change::Well));
        machines
    };
    let arrivals: Vec<Arrival> =
        (0..10_000).map(|n| Arrival { at: MILLI * n, service: 50 * MILLI, ..Arrival::default() }).collect();
    let errors = |policy| replay(&scenario(policy, fails(), arrivals.clone()), Instant::now()).errors;
    let (least, ewma) = (errors(Policy::LeastConnections), errors(Policy::PeakEwma));
    assert!(ewma * 10 < least, "{ewma} {least}");
}

#[test]
fn a_hanging_backend_holds_few_calls_and_all_end() {
    let mut machines = weighted(&[1, 1, 1]);
    machines[2].changes.push((Duration::from_secs(5), Change::Hang));
    let report = replay(&scenario(Policy::LeastConnections, machines, mixed(10_000, MILLI)), Instant::now());
    assert!(report.errors > 0 && report.shares[2].errors == report.errors);
    assert!(report.shares[2].share < 0.25, "{report:?}");
    assert_eq!(report.left, 0);
}

#[test]
fn slots_queue_and_a_downed_backend_gets_nothing() {
    let mut machines =
        vec![Machine { slots: 1, ..Machine::default() }, Machine { slots: 1, ..Machine::default() }];
    machines[1].changes.push((Duration::ZERO, Change::Down));
    let arrivals =
        (0..3).map(|_| Arrival { at: 5000 * MILLI, service: 100 * MILLI, ..Arrival::default() }).collect();
    let report = replay(&scenario(Policy::LeastConnections, machines, arrivals), Instant::now());
    assert_eq!([report.shares[0].calls, report.shares[1].calls], [3, 0]);
    assert_eq!((report.p50, report.p99), (200 * MILLI, 200 * MILLI), "100, 200 and 300 ms");
}

#[test]
fn what_an_operator_changes_is_replayed() {
    let mut machines = weighted(&[1, 1]);
    machines[0].changes = vec![(Duration::ZERO, Change::Weight(3))];
    let arrivals: Vec<Arrival> =
        (0..8_000).map(|n| Arrival { at: MILLI * n, service: MILLI, ..Arrival::default() }).collect();
    let report = replay(&scenario(Policy::RoundRobin, machines, arrivals), Instant::now());
    assert!((report.shares[0].share - 0.75).abs() < 0.01, "{report:?}");
}

/// What befalls a machine in `seconds`: every kind of change, at random times.
fn troubles(seconds: u64, seed: u64) -> Vec<(Duration, Change)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut changes: Vec<_> = (0..seconds)
        .flat_map(|second| {
            let mut at = |within| Duration::from_millis(second * 1000 + random.u64(within));
            let (trouble, end) = match second % 5 {
                0 => (Change::Down, Change::Up),
                1 => (Change::Unlisted, Change::Listed),
                2 => (Change::Hang, Change::Well),
                3 => (Change::FailFast(MILLI), Change::Well),
                _ => (Change::Weight(5), Change::Weight(1)),
            };
            [(at(0..400), trouble), (at(400..1000), end)]
        })
        .collect();
    changes.sort_by_key(|(at, _)| *at);
    changes
}

/// 10⁶ calls while machines leave, return, hang, fail and change: all of them end, and nothing is counted any more.
#[test]
fn a_million_calls_under_churn_all_end() {
    const CALLS: u64 = 1_000_000;
    let each = usize::try_from(CALLS).unwrap() / Policy::ALL.len();
    for (policy, seed) in Policy::ALL.into_iter().zip(1_u64..) {
        let every = MILLI / 10;
        let seconds = u64::try_from(each).unwrap() / 10_000;
        let machines = (0..12)
            .map(|machine| Machine {
                weight: 1 + machine % 3,
                tier: u8::from(machine > 8),
                changes: troubles(seconds, seed * 100 + u64::from(machine)),
                ..Machine::default()
            })
            .collect();
        let mut arrivals = mixed(each, every);
        for arrival in &mut arrivals {
            arrival.service = arrival.service.min(20 * MILLI);
        }
        let busy = Scenario {
            timeout: 500 * MILLI,
            warm_up: Duration::ZERO,
            ..scenario(policy, machines, arrivals)
        };
        let settings = Settings { max_in_flight: 200, ..busy.settings };
        let report = replay(&Scenario { settings, ..busy }, Instant::now());
        let given: u64 = report.shares.iter().map(|share| share.calls).sum();
        assert_eq!(given + report.unhealthy + report.full, each as u64, "{policy:?}");
        assert!(given > each as u64 / 2 && report.errors > 0, "{policy:?}: {report:?}");
        assert_eq!(report.left, 0, "{policy:?}");
    }
}
