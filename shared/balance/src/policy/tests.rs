//! Properties of the policies. What all have in common first.

mod exact;
mod keyed;
mod latency;
mod turns;

use std::{sync::Arc, thread};

use proptest::prelude::*;

use crate::{InFlight, Policy, Refusal, Settings, fixture::Fixture};

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Well,
    Draining,
    Refused,
    Failing,
    Ejected,
    Tried,
}

fn states() -> impl Strategy<Value = Vec<(State, u32)>> {
    let state = prop_oneof![
        3 => Just(State::Well),
        1 => Just(State::Draining),
        1 => Just(State::Refused),
        1 => Just(State::Failing),
        1 => Just(State::Ejected),
        1 => Just(State::Tried),
    ];
    prop::collection::vec((state, 1_u32..6), 1..100)
}

fn policies() -> impl Strategy<Value = Policy> {
    prop::sample::select(Policy::ALL.to_vec())
}

fn put(fixture: &Fixture, states: &[(State, u32)]) {
    for (backend, (state, _)) in fixture.list().iter().zip(states) {
        match state {
            State::Well | State::Tried => {}
            State::Draining => backend.set_draining(true),
            State::Refused => drop(backend.mark_down("refused", fixture.now)),
            State::Failing => {
                for _ in 0..2 {
                    backend.checked(Err("ill".into()), fixture.now);
                }
            }
            State::Ejected => backend.eject_until(fixture.now + std::time::Duration::from_secs(9)),
        }
    }
}

proptest! {
    /// Nobody who is not to be picked is, whatever the policy and however many there are; somebody is if anybody may be.
    #[test]
    fn nothing_unavailable_is_picked(policy in policies(), states in states(), cap in 0_u64..3) {
        let weights: Vec<u32> = states.iter().map(|(_, weight)| *weight).collect();
        let fixture = Fixture::weighted(&weights, Settings { policy, max_in_flight: cap, ..Settings::default() });
        put(&fixture, &states);
        let list = fixture.list();
        let tried: Vec<_> = list.iter().zip(&states).filter(|(_, (state, _))| *state == State::Tried).map(|(b, _)| Arc::clone(b)).collect();
        let mut held = Vec::new();
        for n in 0..list.len() as u64 * 2 {
            let well = |index: &usize| states[*index].0 == State::Well;
            let room = |index: &usize| cap == 0 || list[*index].in_flight() < cap;
            let candidates: Vec<usize> = (0..list.len()).filter(|index| well(index) && room(index)).collect();
            match fixture.backends.pick(&crate::Ask { tried: &tried, ..fixture.keyed(n) }) {
                Ok(call) if candidates.is_empty() => {
                    // Only a panic may do that: reachable, though ill, and no healthy one has room.
                    let state = states[fixture.index(&call)].0;
                    prop_assert!(matches!(state, State::Failing | State::Ejected), "{state:?}");
                    prop_assert!(tried.is_empty() && list.len() >= 4);
                    held.push(call);
                }
                Ok(call) => {
                    prop_assert!(candidates.contains(&fixture.index(&call)));
                    held.push(call);
                }
                Err(refusal) => {
                    prop_assert!(candidates.is_empty());
                    let full = (0..list.len()).any(|index| well(&index));
                    prop_assert_eq!(refusal, if full { Refusal::Full } else { Refusal::NoneHealthy });
                }
            }
            prop_assert!(cap == 0 || fixture.in_flight().iter().all(|count| *count <= cap));
        }
        prop_assert_eq!(fixture.in_flight().iter().sum::<u64>(), held.len() as u64);
        drop(held);
        prop_assert!(fixture.in_flight().iter().all(|count| *count == 0));
    }

    /// Calls that are held end up spread by weight.
    #[test]
    fn weights_are_honoured(policy in policies(), weights in prop::collection::vec(1_u32..=8, 1..10), rounds in 1_u64..6) {
        let fixture = Fixture::weighted(&weights, Settings { policy, bounded_load: 1.0, ..Settings::default() });
        let total: u32 = weights.iter().sum();
        let held: Vec<InFlight> = (0..rounds * u64::from(total)).map(|n| fixture.backends.pick(&fixture.keyed(n)).unwrap()).collect();
        for (count, weight) in fixture.in_flight().iter().zip(&weights) {
            // Rounding of strides and of averages may move a call or two; a key takes its place where it finds it.
            let slack = if policy == Policy::Rendezvous { weights.len() as u64 } else { 1 };
            prop_assert!(count.abs_diff(rounds * u64::from(*weight)) <= slack, "{:?} {weights:?}", fixture.in_flight());
        }
        drop(held);
    }
}

#[test]
fn concurrent_picks_do_not_herd() {
    // Every thread holds what it picks: 4 × 400 calls over 4 backends must end close to 400 each.
    for policy in [Policy::LeastConnections, Policy::PeakEwma, Policy::RoundRobin] {
        let fixture = Fixture::equal(4, policy);
        let pick = || (0..400).map(|_| fixture.pick()).collect::<Vec<InFlight>>();
        let held: Vec<Vec<InFlight>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(pick)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let counts = fixture.in_flight();
        assert_eq!(counts.iter().sum::<u64>(), 1600);
        assert!(counts.iter().all(|count| count.abs_diff(400) <= 8), "{policy:?} {counts:?}");
        drop(held);
        assert_eq!(fixture.in_flight(), [0; 4]);
    }
}

#[test]
fn a_limit_holds_against_many_threads() {
    for policy in Policy::ALL {
        let fixture =
            Fixture::weighted(&[1, 1, 1], Settings { policy, max_in_flight: 50, ..Settings::default() });
        let pick = |thread: u64| {
            let picks = (0..100).map(|n| fixture.backends.pick(&fixture.keyed(thread * 1000 + n)));
            picks.filter_map(Result::ok).collect::<Vec<InFlight>>()
        };
        let held: Vec<Vec<InFlight>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || pick(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 150, "{policy:?}");
        assert_eq!(fixture.in_flight(), [50; 3], "{policy:?}");
        assert_eq!(fixture.backends.pick(&fixture.keyed(1)).unwrap_err(), Refusal::Full);
    }
}
