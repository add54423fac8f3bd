//! Ejection, load reports and latency samples of one backend, seen through its pool.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    Ask, Backends, InFlight, LeftOut, Policy, Reason, Refusal, Settings, Standing, verdict::PENALTY,
};

fn pool(addresses: &[&str], settings: Settings) -> (Backends, Instant) {
    let now = Instant::now();
    let backends = Backends::new(Thresholds::default(), settings, now);
    let desired = |address: &&str| Desired {
        address: (*address).to_owned(),
        weight: 1,
        tier: 0,
        origin: Origin::Config,
    };
    backends.reconcile(&addresses.iter().map(desired).collect::<Vec<_>>());
    for backend in backends.list().iter() {
        backend.checked(Ok(()), now);
    }
    (backends, now)
}

fn picked(backends: &Backends, now: Instant) -> String {
    backends.pick(&Ask::at(now)).unwrap().backend().address().to_owned()
}

#[test]
fn an_ejected_backend_gets_nothing_whatever_its_checks_say() {
    let (backends, now) = pool(&["a:1", "b:1"], Settings::default());
    let (a, until) = (backends.get("a:1").unwrap(), now + Duration::from_secs(5));
    a.eject_until(until);
    a.checked(Ok(()), now);
    assert_eq!((a.ejection(now), a.is_ejected(now)), (Ejection::Ejected, true));
    assert!((0..6).all(|_| picked(&backends, now) == "b:1"));
    let standing = backends.recorded()[0].candidates[0].standing;
    assert_eq!(standing, Standing::LeftOut(LeftOut::Ejected));
    a.readmit(now);
    assert_eq!(a.ejection(now), Ejection::None);
    assert!((0..6).any(|_| picked(&backends, now + Duration::from_secs(60)) == "a:1"));
}

#[test]
fn a_half_open_backend_gets_one_call_at_a_time_until_one_succeeds() {
    let (backends, now) = pool(&["a:1", "b:1"], Settings::default());
    let a = backends.get("a:1").unwrap();
    a.eject_until(now);
    assert_eq!(a.ejection(now), Ejection::HalfOpen);
    let busy: Vec<InFlight> = (0..6).map(|_| backends.pick(&Ask::at(now)).unwrap()).collect();
    let probes = |calls: &[InFlight]| calls.iter().filter(|call| call.is_probe()).count();
    assert_eq!((probes(&busy), a.in_flight()), (1, 1));
    assert!(backends.recorded().iter().any(|record| record.reason == Reason::Probe));
    drop(busy);

    let probe = backends.pick(&Ask { tried: &[backends.get("b:1").unwrap()], key: None, now }).unwrap();
    probe.record(Outcome::Failure);
    drop(probe);
    assert_eq!(a.ejection(now), Ejection::HalfOpen, "a failure, or no word, proves nothing");

    let probe = backends.pick(&Ask { tried: &[backends.get("b:1").unwrap()], key: None, now }).unwrap();
    probe.record(Outcome::Success);
    assert_eq!(a.ejection(now), Ejection::None);
    drop(probe);
    let weight = |_: i32| {
        drop(backends.pick(&Ask::at(now)).unwrap());
        backends.recorded().swap_remove(0).candidates[0].weight
    };
    let least = (0..64).map(weight).fold(f32::INFINITY, f32::min);
    assert!((least - 0.1).abs() < 1e-6, "it returns by slow start");
}

/// A probe may be a stream that goes on for hours, and its success is only known at its end.
#[test]
fn a_probe_keeps_others_away_until_its_first_byte_or_for_a_while() {
    let (backends, now) = pool(&["a:1", "b:1"], Settings::default());
    let (a, b) = (backends.get("a:1").unwrap(), backends.get("b:1").unwrap());
    a.eject_until(now);
    let at = |millis| now + Duration::from_millis(millis);
    let pick = |millis| backends.pick(&Ask { tried: &[Arc::clone(&b)], key: None, now: at(millis) });
    let answered = pick(0).unwrap();
    assert_eq!(pick(1).unwrap_err(), Refusal::NoneHealthy);
    answered.first_byte(at(2));
    let silent = pick(2).unwrap();
    assert_eq!(pick(3).unwrap_err(), Refusal::NoneHealthy);
    drop(answered);
    assert_eq!(pick(4).unwrap_err(), Refusal::NoneHealthy, "it ends its own place only");
    let next = pick(5002).unwrap();
    assert!(next.is_probe() && silent.is_probe());
    drop(silent);
    assert_eq!(pick(5003).unwrap_err(), Refusal::NoneHealthy);
    drop(next);
    assert!(pick(5004).is_ok());
    assert_eq!(a.in_flight(), 0);
}

#[test]
fn a_probe_of_an_older_ejection_does_not_end_a_newer_one() {
    let (backends, now) = pool(&["a:1"], Settings::default());
    let a = backends.get("a:1").unwrap();
    a.eject_until(now);
    let probe = backends.pick(&Ask::at(now)).unwrap();
    assert_eq!(backends.pick(&Ask::at(now)).unwrap_err(), Refusal::NoneHealthy);
    a.eject_until(now + Duration::from_secs(9));
    probe.record(Outcome::Success);
    assert!(a.is_ejected(now));
}

#[test]
fn foreign_load_counts_like_own_until_it_has_faded() {
    let (backends, now) = pool(&["a:1", "b:1"], Settings::default());
    let a = backends.get("a:1").unwrap();
    let own = backends.pick(&Ask { tried: &[backends.get("b:1").unwrap()], key: None, now }).unwrap();
    a.report_load(1, now);
    assert!(a.foreign(now).abs() < f64::EPSILON, "its one call is ours");
    a.report_load(9, now);
    assert!((a.foreign(now) - 8.0).abs() < f64::EPSILON);
    drop(own);
    let held: Vec<InFlight> = (0..8).map(|_| backends.pick(&Ask::at(now)).unwrap()).collect();
    assert_eq!(a.in_flight(), 0, "b takes eight before they are even");
    assert!((backends.recorded()[0].candidates[0].foreign - 8.0).abs() < f32::EPSILON);
    drop(held);
    let later = now + Duration::from_secs(10);
    assert!(a.foreign(later).abs() < f64::EPSILON);
    let held: Vec<InFlight> = (0..8).map(|_| backends.pick(&Ask::at(later)).unwrap()).collect();
    assert_eq!(a.in_flight(), 4);
    drop(held);
}

#[test]
fn only_the_first_byte_is_a_sample_and_a_failure_is_a_slow_one() {
    let (backends, now) = pool(&["a:1"], Settings { policy: Policy::PeakEwma, ..Settings::default() });
    let a = backends.get("a:1").unwrap();
    let call = backends.pick(&Ask::at(now)).unwrap();
    assert_eq!(a.latency(now), None);
    let at = |millis| now + Duration::from_millis(millis);
    call.first_byte(at(20));
    call.first_byte(at(900));
    assert_eq!(a.latency(at(20)).unwrap().as_millis(), 20);
    let other = backends.pick(&Ask::at(at(30))).unwrap();
    other.failed(PENALTY, at(31));
    other.first_byte(at(32));
    assert_eq!(a.latency(at(31)).unwrap().as_secs(), 5);
}
