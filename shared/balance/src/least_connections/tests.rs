//! Properties of the pick, and a simulation that shows the spread.

use std::{
    collections::BinaryHeap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{Backends, Origin, Thresholds};

fn healthy(weights: &[u32]) -> Vec<Arc<Backend>> {
    let backends = weights.iter().enumerate().map(|(i, weight)| {
        let backend = Backend::new(format!("10.0.0.{i}:1"), *weight, Origin::Config, Thresholds::default());
        backend.checked(Ok(()), Instant::now());
        Arc::new(backend)
    });
    backends.collect()
}

fn counts(backends: &[Arc<Backend>]) -> Vec<u64> {
    backends.iter().map(|backend| backend.in_flight()).collect()
}

proptest! {
    /// Whatever calls begin and end, the pick has the least `(in_flight + 1) / weight`, and nothing leaks.
    #[test]
    fn the_pick_is_exact(weights in prop::collection::vec(1_u32..=8, 1..12), steps in prop::collection::vec((any::<bool>(), 0_usize..64), 1..200)) {
        let backends = healthy(&weights);
        let mut calls = Vec::new();
        for (ticket, (begin, which)) in steps.into_iter().enumerate() {
            if begin || calls.is_empty() {
                let before: Vec<f64> = backends.iter().map(|b| (b.in_flight() + 1) as f64 / f64::from(b.weight())).collect();
                let call = pick(&backends, &[], ticket).unwrap();
                let chosen = backends.iter().position(|b| Arc::ptr_eq(b, call.backend())).unwrap();
                let least = before.iter().copied().fold(f64::INFINITY, f64::min);
                prop_assert!((before[chosen] - least).abs() < 1e-9);
                calls.push(call);
            } else {
                calls.swap_remove(which % calls.len());
            }
            prop_assert_eq!(counts(&backends).iter().sum::<u64>(), calls.len() as u64);
        }
        calls.clear();
        prop_assert!(counts(&backends).iter().all(|count| *count == 0));
    }

    /// Among equals everybody gets the same, whoever else is busy.
    #[test]
    fn ties_are_fair(idle in 1_usize..8, busy in 0_usize..8) {
        let backends = healthy(&vec![1; idle + busy]);
        let load: Vec<InFlight> = backends[idle..].iter().map(|b| {
            b.in_flight.fetch_add(1, Ordering::Relaxed);
            InFlight::reserved(Arc::clone(b))
        }).collect();
        let mut picks = vec![0; idle + busy];
        for ticket in 0..idle * 10 {
            let call = pick(&backends, &[], ticket).unwrap();
            picks[backends.iter().position(|b| Arc::ptr_eq(b, call.backend())).unwrap()] += 1;
        }
        drop(load);
        prop_assert!(picks[..idle].iter().all(|count| *count == 10), "{picks:?}");
    }
}

#[test]
fn unhealthy_draining_and_tried_backends_are_left_out() {
    let backends = healthy(&[1, 1, 1]);
    backends[0].mark_down("refused", Instant::now());
    backends[1].set_draining(true);
    for ticket in 0..6 {
        assert_eq!(pick(&backends, &[], ticket).unwrap().backend().address(), "10.0.0.2:1");
    }
    assert!(pick(&backends, &[Arc::clone(&backends[2])], 0).is_none());
}

#[test]
fn unknown_backends_serve_only_when_no_healthy_one_is_left() {
    let unknown = Arc::new(Backend::new("10.0.0.9:1", 1, Origin::Config, Thresholds::default()));
    let mut backends = healthy(&[1]);
    backends.push(unknown);
    for ticket in 0..4 {
        assert_eq!(pick(&backends, &[], ticket).unwrap().backend().address(), "10.0.0.0:1");
    }
    backends[0].mark_down("refused", Instant::now());
    assert_eq!(pick(&backends, &[], 0).unwrap().backend().address(), "10.0.0.9:1");
}

#[test]
fn concurrent_picks_do_not_herd() {
    let backends = Backends::new(Thresholds::default());
    for i in 0..4 {
        backends.add(&format!("10.0.0.{i}:1"), 1).unwrap().checked(Ok(()), Instant::now());
    }
    // Every thread holds what it picks: 4 × 400 calls over 4 backends must end close to 400 each.
    let held: Vec<Vec<InFlight>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..400).map(|_| backends.pick(&[]).unwrap()).collect())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let list = backends.list();
    let counts = counts(&list);
    assert_eq!(counts.iter().sum::<u64>(), 1600);
    assert!(counts.iter().all(|count| count.abs_diff(400) <= 8), "{counts:?}");
    drop(held);
    assert!(list.iter().all(|backend| backend.in_flight() == 0));
}

#[test]
fn many_backends_are_sampled_and_stay_close() {
    let backends = healthy(&[1; 200]);
    let held: Vec<InFlight> = (0..4000).map(|ticket| pick(&backends, &[], ticket * 7919).unwrap()).collect();
    let (least, most) = (*counts(&backends).iter().min().unwrap(), *counts(&backends).iter().max().unwrap());
    assert!(most <= 26 && least >= 12, "{least}..{most}");
    drop(held);
}

/// Weights 1:2:4 and calls of 2 ms and 2 s mixed: in flight per weight stays level, and the time a call spends is not
/// decided by who else is slow. Simulated time; nothing sleeps.
#[test]
fn simulated_mixed_traffic_is_spread_by_weight() {
    let backends = healthy(&[1, 2, 4]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut ends: BinaryHeap<std::cmp::Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut calls: Vec<Option<InFlight>> = Vec::new();
    let (mut now, mut samples, mut sums) = (Duration::ZERO, 0_u32, [0.0; 3]);
    for ticket in 0..20_000 {
        now += Duration::from_micros(random.u64(1..4000));
        while ends.peek().is_some_and(|end| end.0.0 <= now) {
            if let Some(std::cmp::Reverse((_, ended))) = ends.pop() {
                calls[ended] = None;
            }
        }
        let length = if random.u8(..10) == 0 { Duration::from_secs(2) } else { Duration::from_millis(2) };
        calls.push(pick(&backends, &[], ticket));
        ends.push(std::cmp::Reverse((now + length, calls.len() - 1)));
        if ticket > 2000 {
            samples += 1;
            for (sum, backend) in sums.iter_mut().zip(&backends) {
                *sum += backend.in_flight() as f64 / f64::from(backend.weight());
            }
        }
    }
    let mean = sums.iter().sum::<f64>() / 3.0;
    let spread = sums.iter().copied().fold(0.0, f64::max) / mean;
    let levels = sums.map(|sum| format!("{:.2}", sum / f64::from(samples)));
    println!("in flight per weight, weights 1:2:4: {levels:?}; max/mean {spread:.3}");
    assert!(spread <= 1.10, "{levels:?}");
}
