//! Least connections.

use proptest::prelude::*;

use crate::{InFlight, Policy, Reason, Settings, fixture::Fixture};

proptest! {
    /// Whatever calls begin and end, the pick has the least `(in_flight + 1) / weight`.
    #[test]
    fn the_pick_is_exact(weights in prop::collection::vec(1_u32..=8, 1..12), steps in prop::collection::vec((any::<bool>(), 0_usize..64), 1..200)) {
        let fixture = Fixture::weighted(&weights, Settings::default());
        let mut calls = Vec::new();
        for (begin, which) in steps {
            if begin || calls.is_empty() {
                let scores: Vec<f64> = fixture.list().iter().map(|b| (b.in_flight() + 1) as f64 / f64::from(b.weight())).collect();
                let call = fixture.pick();
                let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
                prop_assert!(scores[fixture.index(&call)] <= least);
                calls.push(call);
            } else {
                calls.swap_remove(which % calls.len());
            }
            prop_assert_eq!(fixture.in_flight().iter().sum::<u64>(), calls.len() as u64);
        }
    }

    /// Among equals everybody gets the same, whoever else is busy.
    #[test]
    fn ties_are_fair(idle in 1_usize..8, busy in 0_usize..8) {
        let fixture = Fixture::equal(idle + busy, Policy::LeastConnections);
        let list = fixture.list();
        let load: Vec<InFlight> = (0..busy).map(|n| {
            let mut tried = list.to_vec();
            tried.remove(idle + n);
            fixture.backends.pick(&crate::Ask { tried: &tried, ..fixture.ask() }).unwrap()
        }).collect();
        let counts = fixture.counts(idle as u64 * 10, |_| fixture.ask());
        drop(load);
        prop_assert!(counts[..idle].iter().all(|count| *count == 10), "{counts:?}");
    }
}

#[test]
fn many_backends_are_sampled_and_stay_close() {
    let fixture = Fixture::equal(200, Policy::LeastConnections);
    let held: Vec<InFlight> = (0..4000).map(|_| fixture.pick()).collect();
    let counts = fixture.in_flight();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(*most <= 26 && *least >= 12, "{least}..{most}");
    assert_eq!(fixture.last().reason, Reason::Sampled);
    drop(held);
}

#[test]
fn few_well_ones_among_many_are_found_and_share() {
    let fixture = Fixture::equal(300, Policy::LeastConnections);
    let well = [7, 150, 299];
    for (index, backend) in fixture.list().iter().enumerate() {
        backend.set_draining(!well.contains(&index));
    }
    let held: Vec<InFlight> = (0..300).map(|_| fixture.pick()).collect();
    assert!(
        well.iter().all(|index| fixture.in_flight()[*index].abs_diff(100) <= 1),
        "{:?}",
        fixture.in_flight()
    );
    drop(held);
}

#[test]
fn reasons_say_why() {
    let fixture = Fixture::equal(2, Policy::LeastConnections);
    let first = fixture.pick();
    assert_eq!(fixture.last().reason, Reason::Tie);
    let second = fixture.pick();
    assert_eq!(fixture.last().reason, Reason::LeastLoad);
    assert_ne!(fixture.index(&first), fixture.index(&second));
    fixture.list()[0].set_draining(true);
    drop(fixture.pick());
    assert_eq!(fixture.last().reason, Reason::OnlyOne);
}
