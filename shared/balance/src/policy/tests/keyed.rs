//! Rendezvous hashing with bounded load.

use proptest::prelude::*;

use crate::{InFlight, LeftOut, Policy, Reason, Settings, Standing, fixture::Fixture};

fn rendezvous(weights: &[u32]) -> Fixture {
    Fixture::weighted(weights, Settings { policy: Policy::Rendezvous, ..Settings::default() })
}

fn owners(fixture: &Fixture, keys: u64) -> Vec<String> {
    let owner = |key| fixture.backends.pick(&fixture.keyed(key)).unwrap().backend().address().to_owned();
    (0..keys).map(owner).collect()
}

#[test]
fn a_key_stays_and_a_backend_that_leaves_moves_only_its_own() {
    let fixture = rendezvous(&[1, 1, 2, 3]);
    let before = owners(&fixture, 2000);
    assert_eq!(before, owners(&fixture, 2000));
    fixture.list()[1].set_draining(true);
    let after = owners(&fixture, 2000);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "b1:1", "{before} {after}");
    }
    assert!(after.iter().all(|owner| owner != "b1:1"));
}

#[test]
fn keys_fall_to_backends_by_weight() {
    let fixture = rendezvous(&[1, 2, 4, 8]);
    let counts = fixture.counts(30_000, |n| fixture.keyed(n));
    for (count, share) in counts.iter().zip([2000.0, 4000.0, 8000.0, 16_000.0]) {
        assert!((*count as f64 / share - 1.0).abs() < 0.06, "{counts:?}");
    }
}

#[test]
fn a_hot_key_spills_over_and_comes_back() {
    let fixture = rendezvous(&[1, 1, 1, 1]);
    let owner = fixture.index(&fixture.backends.pick(&fixture.keyed(5)).unwrap());
    let held: Vec<InFlight> = (0..40).map(|_| fixture.backends.pick(&fixture.keyed(5)).unwrap()).collect();
    assert!(fixture.in_flight()[owner] <= 13, "ceil(1.25 × 40 / 4): {:?}", fixture.in_flight());
    let record = fixture.backends.recorded().into_iter().find(|record| record.reason == Reason::PassedOver);
    let over = |record: &crate::PickRecord| {
        record.candidates[owner].standing == Standing::LeftOut(LeftOut::OverShare)
    };
    assert!(record.is_some_and(|record| over(&record)));
    drop(held);
    assert_eq!(fixture.index(&fixture.backends.pick(&fixture.keyed(5)).unwrap()), owner);
}

#[test]
fn without_a_key_it_goes_by_load() {
    let fixture = rendezvous(&[1, 2]);
    let held: Vec<InFlight> = (0..30).map(|_| fixture.pick()).collect();
    assert_eq!(fixture.in_flight(), [10, 20]);
    drop(held);
}

proptest! {
    /// Whatever keys come and calls end, nobody is given a call above its bound.
    #[test]
    fn the_bound_is_never_exceeded(
        weights in prop::collection::vec(1_u32..=8, 1..12),
        factor in 1.0_f64..2.0,
        steps in prop::collection::vec((0_u64..6, any::<bool>(), 0_usize..64), 1..200),
    ) {
        let fixture = Fixture::weighted(&weights, Settings { policy: Policy::Rendezvous, bounded_load: factor, ..Settings::default() });
        let sum = f64::from(weights.iter().sum::<u32>());
        let mut held = Vec::new();
        for (key, ends, which) in steps {
            if ends && !held.is_empty() {
                held.swap_remove(which % held.len());
            }
            let call = fixture.backends.pick(&fixture.keyed(key)).unwrap();
            held.push(call);
            let index = fixture.index(held.last().unwrap());
            let bound = (factor * f64::from(weights[index]) / sum * held.len() as f64).ceil();
            prop_assert!(fixture.in_flight()[index] as f64 <= bound, "{:?} above {bound}", fixture.in_flight());
        }
        drop(held);
        prop_assert!(fixture.in_flight().iter().all(|count| *count == 0));
    }
}
