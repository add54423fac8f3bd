//! Round robin.

use std::thread;

use proptest::prelude::*;

use crate::{Policy, Settings, fixture::Fixture};

fn round_robin(weights: &[u32]) -> Fixture {
    Fixture::weighted(weights, Settings { policy: Policy::RoundRobin, ..Settings::default() })
}

fn order(fixture: &Fixture, picks: usize) -> Vec<usize> {
    (0..picks).map(|_| fixture.index(&fixture.pick())).collect()
}

#[test]
fn a_heavy_backend_is_spread_over_the_round() {
    assert_eq!(order(&round_robin(&[5, 1, 1]), 14), [0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
    assert_eq!(order(&round_robin(&[1, 1, 1]), 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(order(&round_robin(&[2, 1]), 6), [0, 1, 0, 0, 1, 0]);
}

#[test]
fn who_was_away_does_not_catch_up() {
    let fixture = round_robin(&[1, 1]);
    fixture.list()[1].set_draining(true);
    assert_eq!(order(&fixture, 100), [0; 100]);
    fixture.list()[1].set_draining(false);
    let after = order(&fixture, 10);
    assert_eq!(after.iter().filter(|index| **index == 1).count(), 5, "{after:?}");
}

#[test]
fn threads_share_one_round() {
    let fixture = round_robin(&[1, 2, 4]);
    let counts: Vec<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| fixture.counts(700, |_| fixture.ask()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sums: Vec<u64> = (0..3).map(|index| counts.iter().map(|counts| counts[index]).sum()).collect();
    assert!(sums.iter().zip([400, 800, 1600]).all(|(sum, share)| sum.abs_diff(share) <= 1), "{sums:?}");
}

proptest! {
    /// After any number of calls nobody is more than a call and a bit from its share.
    #[test]
    fn every_prefix_is_fair(weights in prop::collection::vec(1_u32..=20, 1..8), picks in 1_usize..300) {
        let fixture = round_robin(&weights);
        let total = f64::from(weights.iter().sum::<u32>());
        let mut counts = vec![0_u32; weights.len()];
        for (n, index) in order(&fixture, picks).into_iter().enumerate() {
            counts[index] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let share = (n + 1) as f64 * f64::from(*weight) / total;
                prop_assert!((f64::from(*count) - share).abs() < 1.0 + weights.len() as f64 / 4.0, "{counts:?} of {weights:?}");
            }
        }
    }
}
