//! Changes of the list, and what survives them.

use std::{thread, time::Duration};

use super::*;
use crate::{Health, Policy};

fn want(address: &str, weight: u32) -> Desired {
    Desired { address: address.to_owned(), weight, tier: 0, origin: Origin::Config }
}

fn pool() -> (Backends, Instant) {
    let now = Instant::now();
    (Backends::new(Thresholds::default(), Settings::default(), now), now)
}

fn addresses(backends: &Backends) -> Vec<String> {
    backends.list().iter().map(|backend| backend.address().to_owned()).collect()
}

#[test]
fn counters_and_run_time_changes_survive_a_reconcile() {
    let (backends, now) = pool();
    backends.reconcile(&[want("a:1", 1), want("b:1", 1)]);
    backends.get("a:1").unwrap().checked(Ok(()), now);
    let call = backends.pick(&Ask::at(now)).unwrap();
    assert_eq!(call.backend().address(), "a:1");
    backends.set_weight("a:1", 5).unwrap();
    backends.add("c:1", 2).unwrap();
    backends.remove("b:1").unwrap();

    backends.reconcile(&[want("a:1", 3), want("b:1", 1), want("d:1", 1)]);
    assert_eq!(addresses(&backends), ["a:1", "d:1", "c:1"], "removed stays removed, added stays added");
    let a = backends.get("a:1").unwrap();
    assert_eq!((a.in_flight(), a.weight(), a.changed()), (1, 5, true));

    backends.reconcile(&[]);
    assert_eq!(addresses(&backends), ["c:1"]);
    drop(call);
    assert_eq!(a.in_flight(), 0);
}

/// A name that resolves to nothing for a moment, or to others, must not hide what still runs.
#[test]
fn a_backend_that_goes_and_comes_back_has_its_calls_and_its_ejection_but_not_its_health() {
    let (backends, now) = pool();
    backends.reconcile(&[want("a:1", 1)]);
    let a = backends.get("a:1").unwrap();
    a.checked(Ok(()), now);
    a.eject_until(now + Duration::from_secs(9));
    backends.set_draining("a:1", true).unwrap();
    backends.reconcile(&[]);
    let (call, number) = a.reserve(u64::MAX, 0, now).unwrap();
    drop(a);
    backends.reconcile(&[want("b:1", 1)]);
    backends.reconcile(&[want("a:1", 7)]);
    let a = backends.get("a:1").unwrap();
    assert_eq!((a.in_flight(), number, a.weight()), (1, 0, 7));
    assert_eq!((a.health(), a.is_ejected(now), a.draining()), (Health::Unknown, true, true));
    drop(call);
    assert_eq!(a.in_flight(), 0);
    drop(a);

    backends.reconcile(&[]);
    backends.reconcile(&[want("a:1", 7)]);
    assert!(!backends.get("a:1").unwrap().is_ejected(now), "nothing of it was left");
}

#[test]
fn a_drain_that_ended_leaves_the_weight_to_the_configuration() {
    let (backends, _) = pool();
    backends.reconcile(&[want("a:1", 1)]);
    backends.set_draining("a:1", true).unwrap();
    assert!(backends.get("a:1").unwrap().changed());
    backends.set_draining("a:1", false).unwrap();
    backends.reconcile(&[want("a:1", 4)]);
    let a = backends.get("a:1").unwrap();
    assert_eq!((a.weight(), a.changed()), (4, false));
}

/// Whichever weight slow start gives it, a key goes by the same one every time.
#[test]
fn in_slow_start_a_key_stays_where_it_is() {
    let (backends, now) = pool();
    backends.configure(Settings { policy: Policy::Rendezvous, ..Settings::default() }, now);
    backends.reconcile(&[want("a:1", 1), want("b:1", 1)]);
    for address in ["a:1", "b:1"] {
        backends.get(address).unwrap().checked(Ok(()), now);
    }
    backends.get("b:1").unwrap().mark_down("refused", now);
    backends.get("b:1").unwrap().checked(Ok(()), now);
    let chosen = |key: u64| {
        let ask = Ask { key: Some(crate::hash(&key.to_le_bytes())), ..Ask::at(now + Duration::from_secs(9)) };
        backends.pick(&ask).unwrap().backend().address().to_owned()
    };
    let homes: Vec<_> = (0..200).map(chosen).collect();
    assert!(homes.iter().any(|home| home == "a:1") && homes.iter().any(|home| home == "b:1"));
    for _ in 0..20 {
        assert_eq!((0..200).map(chosen).collect::<Vec<_>>(), homes);
    }
}

#[test]
fn bad_changes_are_refused() {
    let (backends, now) = pool();
    backends.add("a:1", 1).unwrap();
    assert_eq!(backends.add("a:1", 1).unwrap_err(), ChangeError::Exists("a:1".into()));
    assert_eq!(backends.add("b:1", 0).unwrap_err(), ChangeError::Weight(0));
    assert_eq!(backends.set_weight("a:1", 1001).unwrap_err(), ChangeError::Weight(1001));
    assert_eq!(backends.remove("x:1").unwrap_err(), ChangeError::Unknown("x:1".into()));
    assert!(backends.pick(&Ask::at(now)).is_ok(), "unknown health serves when nothing else does");
    backends.set_draining("a:1", true).unwrap();
    assert_eq!(backends.pick(&Ask::at(now)).unwrap_err(), Refusal::NoneHealthy);
}

#[test]
fn settings_change_for_the_next_pick_and_rounds_go_on() {
    let (backends, now) = pool();
    let round_robin = Settings { policy: Policy::RoundRobin, ..Settings::default() };
    backends.configure(round_robin, now);
    backends.reconcile(&[want("a:1", 1), want("b:1", 1)]);
    for backend in backends.list().iter() {
        backend.checked(Ok(()), now);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        backends
            .configure(Settings { max_in_flight: backends.settings().max_in_flight + 9, ..round_robin }, now);
        order.push(backends.pick(&Ask::at(now)).unwrap().backend().address().to_owned());
    }
    assert_eq!(order, ["a:1", "b:1", "a:1", "b:1"]);
    backends.configure(Settings::default(), now);
    drop(backends.pick(&Ask::at(now)).unwrap());
    let policies: Vec<Policy> = backends.recorded().iter().map(|record| record.policy).collect();
    assert_eq!(policies[..2], [Policy::LeastConnections, Policy::RoundRobin]);
}

/// Gateway and backends start together: who is not up at the first look is no return.
#[test]
fn a_founder_that_comes_up_a_little_later_does_not_start_slowly() {
    let slow = |millis| {
        let (backends, now) = pool();
        backends.reconcile(&[want("a:1", 1), want("b:1", 1)]);
        let (a, b) = (backends.get("a:1").unwrap(), backends.get("b:1").unwrap());
        a.checked(Ok(()), now);
        b.checked(Err("refused".to_owned()), now);
        let up = now + Duration::from_millis(millis);
        b.checked(Ok(()), up);
        let picks = (0..100).filter(|_| backends.pick(&Ask::at(up)).unwrap().backend().address() == "b:1");
        picks.count() < 25
    };
    assert!(!slow(500));
    assert!(slow(31_000), "others have carried the load since");
}

/// The founders of a pool do not start slowly when they are first found to be well; everybody does later.
#[test]
fn only_returns_and_newcomers_start_slowly() {
    let (backends, now) = pool();
    let later = now + Duration::from_secs(100);
    backends.reconcile(&[]);
    backends.reconcile(&[want("founder:1", 1), want("late:1", 1), want("ejected:1", 1)]);
    let get = |address: &str| backends.get(address).unwrap();
    get("founder:1").checked(Ok(()), now);
    get("late:1").checked(Ok(()), later);
    get("ejected:1").checked(Ok(()), now);
    // Of many picks, those in which it takes part with less than its whole weight.
    let factor = |address: &str, at| {
        let weight = |_: i32| {
            drop(backends.pick(&Ask::at(at)).unwrap());
            let record = backends.recorded().swap_remove(0);
            record.candidates.into_iter().find(|candidate| candidate.address == address).unwrap().weight
        };
        (0..64).map(weight).fold(f32::INFINITY, f32::min)
    };
    for address in ["founder:1", "late:1", "ejected:1"] {
        assert!((factor(address, later) - 1.0).abs() < 1e-6, "{address}");
    }

    get("founder:1").mark_down("refused", later);
    get("founder:1").checked(Ok(()), later);
    get("ejected:1").eject_until(later);
    get("ejected:1").readmit(later);
    backends.reconcile(&[want("founder:1", 1), want("late:1", 1), want("ejected:1", 1), want("new:1", 1)]);
    backends.add("added:1", 1).unwrap();
    for address in ["new:1", "added:1"] {
        assert_eq!(get(address).checked(Ok(()), later), Some(Health::Healthy));
    }
    let half = later + Duration::from_secs(15);
    for address in ["founder:1", "ejected:1", "new:1", "added:1"] {
        assert!((factor(address, half) - 0.5).abs() < 1e-6, "{address}");
    }
    assert!((factor("late:1", half) - 1.0).abs() < 1e-6);
    let after = later + Duration::from_secs(30);
    assert!((factor("founder:1", after) - 1.0).abs() < 1e-6);
}

/// Of two idle backends the one that is half-way through its slow start gets half of its half.
#[test]
fn an_idle_pool_warms_up_who_returns() {
    let (backends, now) = pool();
    backends.reconcile(&[want("a:1", 1), want("b:1", 1)]);
    backends.get("a:1").unwrap().checked(Ok(()), now);
    backends.get("b:1").unwrap().checked(Ok(()), now);
    backends.get("b:1").unwrap().mark_down("refused", now);
    backends.get("b:1").unwrap().checked(Ok(()), now);
    let half = now + Duration::from_secs(15);
    let picks =
        (0..4000).filter(|_| backends.pick(&Ask::at(half)).unwrap().backend().address() == "b:1").count();
    assert!((900..1100).contains(&picks), "{picks} of 4000");
}

/// Many picks on several threads while the list changes, calls are held, fail and answer: every counter ends at zero,
/// those of backends that left included. The bench does the same 2 × 10⁶ times.
#[test]
fn counters_return_to_zero_under_churn() {
    const PICKS: usize = 50_000;
    let (backends, now) = pool();
    let desired: Vec<Desired> = (0..8).map(|i| want(&format!("b{i}:1"), 1 + i % 3)).collect();
    backends.reconcile(&desired);
    let mut all = backends.list().to_vec();
    for backend in &all {
        backend.checked(Ok(()), now);
    }
    let work = |policy: usize| {
        let mut held: Vec<Option<InFlight>> = (0..29).map(|_| None).collect();
        for n in 0..PICKS {
            let key = Some((n * 7 + policy) as u64);
            let call = backends.pick(&Ask { tried: &[], key, now }).ok();
            if let Some(call) = call.as_ref().filter(|_| n % 3 == 0) {
                call.record(if n % 2 == 0 { crate::Outcome::Failure } else { crate::Outcome::Success });
            }
            held[n % 29] = call;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|policy| scope.spawn(move || work(policy))).collect();
        let mut changes = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            changes += 1;
            let stays = |(i, want): (usize, &Desired)| (i % 5 != changes % 5).then(|| want.clone());
            let policy = Policy::ALL[changes % 4];
            backends.configure(Settings { policy, max_in_flight: 200, ..Settings::default() }, now);
            backends.reconcile(&desired.iter().enumerate().filter_map(stays).collect::<Vec<_>>());
            let list = backends.list();
            for backend in list.iter() {
                backend.assume_healthy(now);
            }
            list[changes % list.len()].eject_until(now);
            list[(changes + 1) % list.len()].readmit(now);
            all.extend(
                list.iter()
                    .filter(|new| !all.iter().any(|old| Arc::ptr_eq(old, new)))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            thread::yield_now();
        }
    });
    let calls: u64 = all.iter().map(|backend| backend.calls()).sum();
    assert!(calls > PICKS as u64, "{calls}");
    assert!(all.iter().all(|backend| backend.in_flight() == 0));
    // No probe is left open either: everybody whose ejection is over may be tried, once at a time.
    backends.configure(Settings::default(), now);
    backends.list().iter().for_each(|backend| backend.eject_until(now));
    let probes: Vec<InFlight> =
        backends.list().iter().map(|_| backends.pick(&Ask::at(now)).unwrap()).collect();
    assert!(probes.iter().all(|call| call.is_probe() && call.backend().in_flight() == 1));
}
