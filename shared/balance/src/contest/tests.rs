//! Order of the search: grades, tiers, room, panic.

use std::time::Duration;

use proptest::prelude::*;

use crate::{Ask, InFlight, Panic, Policy, Reason, Refusal, Settings, fixture::Fixture};

fn fail(fixture: &Fixture, indexes: &[usize]) {
    for index in indexes {
        for _ in 0..2 {
            fixture.list()[*index].checked(Err("says NOT_SERVING".into()), fixture.now);
        }
    }
}

fn limited(max_in_flight: u64) -> Settings {
    Settings { max_in_flight, ..Settings::default() }
}

#[test]
fn unchecked_backends_serve_only_when_no_healthy_one_has_room() {
    let fixture = Fixture::unchecked(&[(1, 0), (1, 0)], limited(2));
    drop(fixture.pick());
    fixture.list()[0].checked(Ok(()), fixture.now);
    let held: Vec<usize> = [(); 3].map(|()| fixture.pick()).iter().map(|call| fixture.index(call)).collect();
    assert_eq!(held, [0, 0, 1]);
}

/// Shares of the tiers in 1000 picks.
fn shares(fixture: &Fixture, tiers: &[u8]) -> Vec<u64> {
    let counts = fixture.counts(1000, |_| fixture.ask());
    let of_tier = |tier: &u8| {
        let list = fixture.list();
        counts.iter().zip(list.iter()).filter(|(_, b)| b.tier() == *tier).map(|(count, _)| count).sum()
    };
    tiers.iter().map(of_tier).collect()
}

#[test]
fn a_tier_spills_as_it_loses_backends() {
    let of: Vec<(u32, u8)> = (0..10).map(|i| (1, if i < 5 { 0 } else { 7 })).collect();
    let fixture = Fixture::tiered(&of, Settings::default());
    assert_eq!(shares(&fixture, &[0, 7]), [1000, 0]);
    fail(&fixture, &[0]);
    assert_eq!(shares(&fixture, &[0, 7]), [1000, 0], "1.4 × 80 % is still everything");
    fail(&fixture, &[1, 2]);
    let spilled = shares(&fixture, &[0, 7]);
    assert!(spilled[0].abs_diff(560) <= 3 && spilled[0] + spilled[1] == 1000, "1.4 × 40 %: {spilled:?}");
    assert!(fixture.backends.recorded().iter().any(|record| record.reason == Reason::Overflow { tier: 7 }));
    fail(&fixture, &[3, 4]);
    assert_eq!(shares(&fixture, &[0, 7]), [0, 1000]);
    fail(&fixture, &[5, 6, 7, 8]);
    assert_eq!(shares(&fixture, &[0, 7]), [0, 1000], "all that is left, however little");
}

#[test]
fn too_little_everywhere_is_shared_by_what_there_is() {
    let of: Vec<(u32, u8)> = (0..20).map(|i| (1, i / 10)).collect();
    let fixture = Fixture::tiered(&of, Settings::default());
    fail(&fixture, &[0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]);
    // 28 % and 56 %, of 84 %.
    let shared = shares(&fixture, &[0, 1]);
    assert!(shared[0].abs_diff(333) <= 4, "{shared:?}");
}

#[test]
fn a_tier_without_room_overflows_to_the_next_and_then_calls_are_refused() {
    let fixture = Fixture::tiered(&[(1, 0), (1, 3), (1, 9)], limited(2));
    let held: Vec<InFlight> = (0..6).map(|_| fixture.pick()).collect();
    let order: Vec<usize> = held.iter().map(|call| fixture.index(call)).collect();
    assert_eq!(order, [0, 0, 1, 1, 2, 2]);
    assert_eq!(fixture.last().reason, Reason::Overflow { tier: 9 });
    assert_eq!(fixture.backends.pick(&fixture.ask()).unwrap_err(), Refusal::Full);
    assert_eq!((fixture.last().reason, fixture.last().chosen), (Reason::Full, None));
    drop(held);
    assert_eq!(fixture.index(&fixture.pick()), 0);
}

#[test]
fn a_tier_returns_by_its_probe() {
    let fixture = Fixture::tiered(&[(1, 0), (1, 1)], Settings::default());
    fixture.list()[0].eject_until(fixture.now + Duration::from_secs(5));
    assert_eq!(fixture.index(&fixture.pick()), 1);
    let after = Ask::at(fixture.now + Duration::from_secs(5));
    let probe = fixture.backends.pick(&after).unwrap();
    assert!(probe.is_probe() && fixture.index(&probe) == 0);
    assert_eq!(fixture.index(&fixture.backends.pick(&after).unwrap()), 1, "one probe at a time");
}

#[test]
fn slow_start_ramps_the_limit_too() {
    let fixture = Fixture::tiered(&[(1, 0)], limited(20));
    fixture.list()[0].mark_down("refused", fixture.now);
    fixture.list()[0].checked(Ok(()), fixture.now);
    let at = |seconds| Ask::at(fixture.now + Duration::from_secs(seconds));
    let room =
        |ask: Ask<'_>| std::iter::from_fn(|| fixture.backends.pick(&ask).ok()).collect::<Vec<_>>().len();
    assert_eq!([room(at(0)), room(at(15)), room(at(30))], [2, 10, 20]);
}

#[test]
fn panic_uses_ill_backends_only_when_the_few_healthy_have_no_room() {
    let fixture = Fixture::tiered(&[(1, 0); 4], limited(2));
    fail(&fixture, &[1]);
    fixture.list()[2].mark_down("refused", fixture.now);
    fixture.list()[3].set_draining(true);
    let held: Vec<InFlight> = (0..4).map(|_| fixture.pick()).collect();
    let order: Vec<usize> = held.iter().map(|call| fixture.index(call)).collect();
    assert_eq!(order, [0, 0, 1, 1], "never the one that refused, nor the one that drains");
    assert_eq!(fixture.last().reason, Reason::Panic);
    assert_eq!(fixture.backends.pick(&fixture.ask()).unwrap_err(), Refusal::Full);
    drop(held);
}

#[test]
fn a_healthy_backend_that_was_tried_prevents_panic() {
    let fixture = Fixture::tiered(&[(1, 0); 4], Settings::default());
    fail(&fixture, &[1, 2, 3]);
    let tried = [fixture.list()[0].clone()];
    let ask = Ask { tried: &tried, ..fixture.ask() };
    assert_eq!(fixture.backends.pick(&ask).unwrap_err(), Refusal::NoneHealthy);
    fixture.list()[0].mark_down("refused", fixture.now);
    assert!(fixture.backends.pick(&ask).is_ok());
}

#[test]
fn small_pools_and_pools_that_are_mostly_well_do_not_panic() {
    let three = Fixture::tiered(&[(1, 0); 3], Settings::default());
    fail(&three, &[0, 1, 2]);
    assert_eq!(three.backends.pick(&three.ask()).unwrap_err(), Refusal::NoneHealthy);

    let half = Fixture::tiered(&[(1, 0); 4], limited(1));
    fail(&half, &[0, 1]);
    let held = [half.pick(), half.pick()];
    assert_eq!(half.backends.pick(&half.ask()).unwrap_err(), Refusal::Full, "half is not less than half");
    drop(held);

    let never = Settings { panic: Panic { threshold: 0.0, ..Panic::default() }, ..Settings::default() };
    let off = Fixture::tiered(&[(1, 0); 4], never);
    fail(&off, &[0, 1, 2, 3]);
    assert!(off.backends.pick(&off.ask()).is_err());
}

#[test]
fn an_ejected_backend_may_help_in_a_panic() {
    for policy in Policy::ALL {
        let fixture = Fixture::tiered(&[(1, 0); 4], Settings { policy, ..Settings::default() });
        for backend in fixture.list().iter() {
            backend.eject_until(fixture.now + Duration::from_secs(5));
        }
        let call = fixture.backends.pick(&fixture.keyed(1)).unwrap();
        assert!(!call.is_probe(), "it proves nothing about the end of the ejection");
        assert_eq!(fixture.last().reason, Reason::Panic);
    }
}

proptest! {
    /// The formula, for any three tiers: each in order takes what it can of what is left.
    #[test]
    fn tiers_take_their_shares(down in prop::array::uniform3(0_usize..=4)) {
        let of: Vec<(u32, u8)> = (0..12).map(|i| (1, i / 4)).collect();
        let fixture = Fixture::tiered(&of, Settings::default());
        for (tier, down) in down.iter().enumerate() {
            fail(&fixture, &(0..*down).map(|i| tier * 4 + i).collect::<Vec<_>>());
        }
        let health = down.map(|down| (1.4 * (4 - down) as f64 / 4.0).min(1.0));
        let sum: f64 = health.iter().sum();
        prop_assume!(sum > 0.0);
        let mut left = 1000.0;
        for (share, health) in shares(&fixture, &[0, 1, 2]).into_iter().zip(health) {
            let expected = (1000.0 * health / sum.min(1.0)).min(left);
            left -= expected;
            prop_assert!((share as f64 - expected).abs() <= 5.0, "{share} is not {expected}");
        }
    }
}
