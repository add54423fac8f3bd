//! Taking backends out of rotation by how calls to them end, and letting them back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Backends;
use crate::{
    backend::{Backend, Ejection},
    health::Health,
    in_flight::InFlight,
    outlier::{State, Trip},
    verdict::{Blame, Cause, Verdict},
};

/// What answers nobody for so long while calls wait, and does it to a few calls in a row, is taken to hang.
const SILENCE: Duration = Duration::from_millis(500);

/// What came of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing to tell.
    Nothing,
    /// The backend is out.
    Ejected {
        /// What it was found by; `None` when the probe after an ejection failed.
        trip: Option<Trip>,
        /// For how long.
        time: Duration,
    },
    /// It should be, but too many are.
    TooMany(Trip),
    /// Its probe succeeded: it is back.
    Readmitted,
}

impl Backends {
    /// Takes the verdict on a call, once, while its guard is alive. `random` is any number, for the jitter.
    pub fn observe(&self, call: &InFlight, verdict: &Verdict, now: Instant, random: u32) -> Observed {
        let backend = call.backend();
        let verdict = &charged(call, verdict, now);
        if verdict.blame == Blame::Success {
            backend.answered(now);
        }
        let mut detector = backend.detector();
        let before = detector.state();
        let trip = if call.is_probe() {
            // The pick has let it through; the detector learns of it now.
            let _ = detector.admit(now);
            detector.probed(verdict, now, random)
        } else {
            detector.observe(verdict, now)
        };
        let Some(trip) = trip else {
            // Another probe may have decided before this one.
            let decided = call.is_probe() && detector.state() != before;
            return if decided { probed(backend, detector.state(), now) } else { Observed::Nothing };
        };
        // One at a time, so that two that trip at once do not both count the other as serving.
        let _changes = self.changes();
        let (total, ejected) = self.rotation(now);
        if !self.settings().outlier.may_eject(total, ejected) {
            return Observed::TooMany(trip);
        }
        let Some(time) = detector.eject(now, random) else { return Observed::Nothing };
        backend.eject_until(now + time);
        Observed::Ejected { trip: Some(trip), time }
    }

    /// Ends the ejections of healthy backends when nobody else is left. Returns whether there were any.
    pub fn readmit_when_last(&self, now: Instant) -> bool {
        let (total, ejected) = self.rotation(now);
        if ejected == 0 || total > ejected {
            return false;
        }
        for backend in self.list().iter().filter(|backend| in_rotation(backend)) {
            backend.detector().readmit(now);
            backend.readmit(now);
        }
        true
    }

    /// Backends that would be in rotation if none were ejected, and how many of them are.
    fn rotation(&self, now: Instant) -> (usize, usize) {
        let list = self.list();
        let (mut total, mut ejected) = (0, 0);
        for backend in list.iter().filter(|backend| in_rotation(backend)) {
            total += 1;
            ejected += usize::from(backend.ejection(now) != Ejection::None);
        }
        (total, ejected)
    }
}

/// Does what a probe has decided.
fn probed(backend: &Backend, state: State, now: Instant) -> Observed {
    match state {
        State::Ejected { until, .. } | State::Probing { until, .. } => {
            backend.eject_until(until);
            let time = until.saturating_duration_since(now);
            if time.is_zero() { Observed::Nothing } else { Observed::Ejected { trip: None, time } }
        }
        State::Serving { .. } => {
            backend.readmit(now);
            Observed::Readmitted
        }
    }
}

/// A deadline that its caller set is no hard failure of a backend, since by short ones a caller could eject it at will.
/// But one that has answered nobody for as long as this call waited is not slow for this caller alone.
fn charged(call: &InFlight, verdict: &Verdict, now: Instant) -> Verdict {
    let late = verdict.cause == Cause::Deadline && verdict.blame == Blame::Overloaded;
    let silent = || {
        now.saturating_duration_since(call.began()) >= SILENCE
            && !call.backend().has_answered_since(call.began())
    };
    if late && silent() { Verdict { blame: Blame::Failed, ..*verdict } } else { *verdict }
}

fn in_rotation(backend: &Arc<Backend>) -> bool {
    backend.health() != Health::Unhealthy && !backend.draining()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Ask, Outcome, Settings, Thresholds,
        backend::{Desired, Origin},
        verdict::{Ending, How, Place, Timeout, Whose, classify},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn pool(size: u8, now: Instant) -> Backends {
        let backends = Backends::new(Thresholds::default(), Settings::default(), now);
        let desired: Vec<_> = (0..size)
            .map(|i| Desired { address: format!("10.0.0.{i}:1"), weight: 1, tier: 0, origin: Origin::Config })
            .collect();
        backends.reconcile(&desired);
        for backend in backends.list().iter() {
            backend.checked(Ok(()), now);
        }
        backends
    }

    fn verdict(code: &'static [u8]) -> Verdict {
        let status = Some((code, Place::Trailers));
        classify(&Ending::from(How::Grpc { http_status: 200, status, hints: Default::default() }))
    }

    /// Calls until one lands on `address`; ends that one with `code`, the others well.
    fn end_one(backends: &Backends, address: &str, code: &'static [u8], now: Instant) -> Observed {
        for _ in 0..1000 {
            let call = backends.pick(&Ask::at(now)).unwrap();
            let wanted = call.backend().address() == address;
            let verdict = verdict(if wanted { code } else { b"0" });
            call.record(if wanted && code != b"0" { Outcome::Failure } else { Outcome::Success });
            let observed = backends.observe(&call, &verdict, now, 0);
            if wanted {
                return observed;
            }
        }
        panic!("{address} is never picked");
    }

    #[test]
    fn failures_in_trailers_eject_and_a_good_probe_brings_back() {
        let start = Instant::now();
        let backends = pool(3, start);
        for _ in 0..4 {
            assert_eq!(end_one(&backends, "10.0.0.1:1", b"14", start), Observed::Nothing);
        }
        let Observed::Ejected { trip: Some(Trip::ConsecutiveFailures), time } =
            end_one(&backends, "10.0.0.1:1", b"14", start)
        else {
            panic!("five in a row eject")
        };
        for _ in 0..30 {
            assert_ne!(backends.pick(&Ask::at(start)).unwrap().backend().address(), "10.0.0.1:1");
        }
        // A passing check is no way back.
        backends.get("10.0.0.1:1").unwrap().checked(Ok(()), start);
        assert!(backends.get("10.0.0.1:1").unwrap().is_ejected(start));
        // The first probe fails: out for longer. The second one succeeds.
        let later = start + time;
        let Observed::Ejected { trip: None, time: longer } = end_one(&backends, "10.0.0.1:1", b"14", later)
        else {
            panic!("a failed probe ejects again")
        };
        assert!(longer > time, "{longer:?}");
        assert_eq!(end_one(&backends, "10.0.0.1:1", b"0", later + longer), Observed::Readmitted);
        assert_eq!(backends.get("10.0.0.1:1").unwrap().ejection(later + longer), Ejection::None);
    }

    /// Five calls to a pool of three, all to one backend, that end by their callers' deadline after `waited`; `alive`
    /// says whether another call to it is answered meanwhile.
    fn end_late(waited: Duration, alive: bool) -> Observed {
        let start = Instant::now();
        let backends = pool(3, start);
        let mut calls: Vec<_> = (0..18).map(|_| backends.pick(&Ask::at(start)).unwrap()).collect();
        calls.retain(|call| call.backend().address() == "10.0.0.1:1");
        let (other, end) = (calls.pop().unwrap(), start + waited);
        if alive {
            other.first_byte(start + waited / 2);
        }
        let deadline = How::TimedOut(Timeout::Deadline { whose: Whose::Caller, sent: true });
        let verdict = classify(&Ending::from(deadline));
        calls.iter().map(|call| backends.observe(call, &verdict, end, 0)).last().unwrap()
    }

    #[test]
    fn deadlines_eject_who_answers_nobody_and_nobody_else() {
        let hangs = end_late(SILENCE, false);
        let by = Trip::ConsecutiveFailures;
        assert!(matches!(hangs, Observed::Ejected { trip: Some(trip), .. } if trip == by), "{hangs:?}");
        assert_eq!(end_late(SILENCE, true), Observed::Nothing, "another call was answered");
        let short = SILENCE - Duration::from_millis(1);
        assert_eq!(end_late(short, false), Observed::Nothing, "callers in a hurry eject nobody");
    }

    #[test]
    fn of_two_one_stays_and_the_last_is_let_back_when_the_other_goes() {
        let start = Instant::now();
        let backends = pool(2, start);
        let trip = |address| (0..5).map(|_| end_one(&backends, address, b"14", start)).last().unwrap();
        assert!(matches!(trip("10.0.0.0:1"), Observed::Ejected { .. }));
        assert!(matches!(trip("10.0.0.1:1"), Observed::TooMany(_)), "somebody must be left");
        assert!(!backends.readmit_when_last(start + SECOND));
        backends.get("10.0.0.1:1").unwrap().mark_down("refused", start + SECOND);
        assert!(backends.pick(&Ask::at(start + SECOND)).is_err());
        assert!(backends.readmit_when_last(start + SECOND));
        assert_eq!(backends.pick(&Ask::at(start + SECOND)).unwrap().backend().address(), "10.0.0.0:1");
    }
}
