//! Rows for the rules, a naive model for the counts and the states, and whole small fleets.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::verdict::{Ending, Hints, How, Place, Verdict, classify};

/// A verdict by letter: success, hard, overloaded, caller's error, nobody's.
fn verdict(letter: char) -> Verdict {
    let grpc = |code: &'static [u8]| How::Grpc {
        http_status: 200,
        status: Some((code, Place::Trailers)),
        hints: Hints::default(),
    };
    let how = match letter {
        's' => grpc(b"0"),
        'h' => How::ConnectFailed,
        'o' => grpc(b"8"),
        'c' => grpc(b"5"),
        _ => How::Cancelled,
    };
    classify(&Ending::from(how))
}

const HALF: u32 = 1 << 31;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Feeds letters at one moment and returns the last answer.
fn feed(detector: &mut Detector, letters: &str, now: Instant) -> Option<Trip> {
    letters.chars().map(|letter| detector.observe(&verdict(letter), now)).last().flatten()
}

fn fresh() -> (Detector, Instant) {
    let now = Instant::now();
    (Detector::new(Settings::default(), now), now)
}

#[test]
fn five_hard_failures_in_a_row_trip() {
    let rows = [
        ("hhhh", None),
        ("hhhhh", Some(Trip::ConsecutiveFailures)),
        ("hhhhhh", Some(Trip::ConsecutiveFailures)),
        ("hhhhsh", None),
        ("hhhhch", None),
        ("hhhhoooo", None),
        ("hhhhooooh", Some(Trip::ConsecutiveFailures)),
        ("hhhhnh", Some(Trip::ConsecutiveFailures)),
        ("ooooooooooooooooooo", None),
    ];
    for (letters, expected) in rows {
        let (mut detector, now) = fresh();
        assert_eq!(feed(&mut detector, letters, now), expected, "{letters}");
    }
}

#[test]
fn a_success_rate_below_the_limit_trips_with_enough_calls() {
    // Failures apart from each other, so that none of it is consecutive.
    let rows = [
        ("shhs".repeat(4) + "shs", None),
        ("shhs".repeat(4) + "shsh", Some(Trip::SuccessRate)),
        ("ssss".repeat(4) + "hhhh", None),
        ("ssss".repeat(4) + "hhho", None),
        ("sssh".repeat(3) + "shhshhsh", Some(Trip::SuccessRate)),
        ("o".repeat(19), None),
        ("o".repeat(20), Some(Trip::SuccessRate)),
        ("ssoso".repeat(4), None),
        ("n".repeat(100) + "h", None),
    ];
    for (letters, expected) in rows {
        let (mut detector, now) = fresh();
        assert_eq!(feed(&mut detector, &letters, now), expected, "{letters}");
    }
}

#[test]
fn the_window_forgets_after_ten_buckets() {
    let (mut detector, start) = fresh();
    assert_eq!(feed(&mut detector, &"o".repeat(19), start), None);
    assert_eq!(feed(&mut detector, "o", start + secs(10)), None, "the first bucket is over");
    let (mut detector, start) = fresh();
    assert_eq!(feed(&mut detector, &"o".repeat(19), start), None);
    let last_moment = start + secs(10) - Duration::from_nanos(1);
    assert_eq!(feed(&mut detector, "o", last_moment), Some(Trip::SuccessRate));
}

#[test]
fn either_rule_can_be_off() {
    let now = Instant::now();
    let consecutive_off = Settings { consecutive_failures: 0, ..Settings::default() };
    assert_eq!(feed(&mut Detector::new(consecutive_off, now), &"h".repeat(19), now), None);
    let rate_off = Settings { success_rate_below: 0.0, ..Settings::default() };
    assert_eq!(feed(&mut Detector::new(rate_off, now), &"o".repeat(500), now), None);
}

#[test]
fn ejections_grow_and_a_probe_ends_them() {
    let (mut detector, start) = fresh();
    assert_eq!(detector.eject(start, HALF), Some(secs(5)));
    assert_eq!(detector.eject(start, HALF), None, "it is out already");
    let first = start + secs(5);
    assert_eq!(detector.admit(first - Duration::from_nanos(1)), Admission::Refuse);
    assert_eq!(detector.admit(first), Admission::Probe);
    assert_eq!(detector.admit(first), Admission::Refuse, "one probe at a time");
    assert_eq!(detector.probed(&verdict('h'), first, HALF), None);
    assert_eq!(detector.state(), State::Ejected { until: first + secs(10), n: 2 });
    let second = first + secs(10);
    assert_eq!(detector.admit(second), Admission::Probe);
    detector.probed(&verdict('o'), second, HALF);
    assert_eq!(
        detector.state(),
        State::Ejected { until: second + secs(10), n: 2 },
        "no longer for a soft failure"
    );
    let third = second + secs(10);
    assert_eq!(detector.admit(third), Admission::Probe);
    detector.probed(&verdict('n'), third, HALF);
    assert_eq!(detector.admit(third), Admission::Probe, "a probe without a result is made again at once");
    detector.probed(&verdict('c'), third, HALF);
    assert_eq!(detector.state(), State::Serving { n: 2, since: third });
    assert_eq!(detector.admit(third), Admission::Serve);
}

#[test]
fn a_readmitted_backend_has_a_clean_slate() {
    let (mut detector, now) = fresh();
    feed(&mut detector, &("o".repeat(30) + "hhhhh"), now);
    detector.eject(now, 0);
    detector.admit(now + secs(5));
    detector.probed(&verdict('s'), now + secs(5), 0);
    assert_eq!(feed(&mut detector, "hhhh", now + secs(5)), None);
    assert_eq!(feed(&mut detector, "h", now + secs(5)), Some(Trip::ConsecutiveFailures));
}

#[test]
fn an_ejection_is_forgotten_step_by_step() {
    for (healthy, expected) in [(0, 4), (9, 4), (10, 3), (25, 2), (30, 1), (1000, 1)] {
        let (mut detector, mut now) = fresh();
        for _ in 0..3 {
            detector.eject(now, HALF);
            now += secs(60);
            assert_eq!(detector.admit(now), Admission::Probe);
            detector.probed(&verdict('s'), now, HALF);
        }
        assert_eq!(detector.eject(now + secs(healthy), HALF), Some(secs(5 * expected)), "{healthy} s");
    }
}

#[test]
fn calls_from_before_the_ejection_change_nothing() {
    let (mut detector, now) = fresh();
    detector.eject(now, HALF);
    let before = detector.state();
    assert_eq!(feed(&mut detector, "shhhhhhhoooosss", now), None);
    assert_eq!(detector.state(), before);
    detector.admit(now + secs(5));
    let probing = detector.state();
    assert_eq!(feed(&mut detector, "sssshhhhhhh", now + secs(5)), None);
    assert_eq!(detector.state(), probing, "only the probe decides");
}

#[test]
fn a_probe_that_never_ends_is_followed_by_another() {
    let (mut detector, start) = fresh();
    detector.eject(start, HALF);
    let first = start + secs(5);
    assert_eq!(detector.admit(first), Admission::Probe);
    assert_eq!(detector.admit(first + secs(4)), Admission::Refuse);
    assert_eq!(detector.admit(first + secs(5)), Admission::Probe);
    detector.probed(&verdict('s'), first + secs(6), HALF);
    assert!(!detector.is_ejected());
    assert_eq!(
        detector.probed(&verdict('h'), first + secs(7), HALF),
        None,
        "the late one is a call like any other"
    );
    assert!(!detector.is_ejected());
}

#[test]
fn ejection_times_stay_within_their_bounds() {
    let settings = Settings::default();
    let lengths = [(1, 5), (2, 10), (11, 55), (12, 60), (13, 60), (u32::MAX, 60)];
    for (n, seconds) in lengths {
        assert_eq!(settings.ejection_time(n, HALF), secs(seconds));
        assert_eq!(settings.ejection_time(n, 0), secs(seconds) * 9 / 10);
        let most = settings.ejection_time(n, u32::MAX);
        assert!(most > secs(seconds) * 1099 / 1000 && most <= secs(seconds) * 11 / 10, "{most:?}");
    }
}

#[test]
fn the_growth_ends_with_the_longest_time() {
    let (mut detector, mut now) = fresh();
    detector.eject(now, HALF);
    for _ in 0..100 {
        now += secs(70);
        assert_eq!(detector.admit(now), Admission::Probe);
        detector.probed(&verdict('h'), now, HALF);
    }
    assert_eq!(detector.state(), State::Ejected { until: now + secs(60), n: 12 });
}

#[test]
fn extreme_settings_do_not_panic() {
    let now = Instant::now();
    for (length, rate) in [(Duration::ZERO, f64::NAN), (Duration::MAX, f64::INFINITY)] {
        let settings = Settings {
            consecutive_failures: 1,
            success_rate_below: rate,
            min_calls: 0,
            window: length,
            base_ejection: length,
            max_ejection: length,
            max_ejected_percent: u32::MAX,
        };
        let mut detector = Detector::new(settings, now + secs(1));
        feed(&mut detector, "shocn", now);
        detector.eject(now, u32::MAX);
        detector.admit(now + secs(100_000));
        detector.probed(&verdict('h'), now + secs(1_000_000), u32::MAX);
        assert!(detector.is_ejected());
        assert!(!settings.may_eject(0, 0) && !settings.may_eject(1, 0) && !settings.may_eject(1, 5));
        assert!(settings.may_eject(usize::MAX, 0));
    }
}

#[test]
fn how_many_may_be_out() {
    let most = |percent, total| {
        let settings = Settings { max_ejected_percent: percent, ..Settings::default() };
        (0..=total).take_while(|ejected| settings.may_eject(total, *ejected)).count()
    };
    let rows = [
        (50, 0, 0),
        (50, 1, 0),
        (50, 2, 1),
        (50, 3, 1),
        (50, 4, 2),
        (50, 5, 2),
        (50, 100, 50),
        (10, 2, 1),
        (10, 4, 1),
        (10, 100, 10),
        (0, 2, 1),
        (100, 2, 1),
        (100, 3, 2),
        (100, 100, 99),
        (1000, 4, 3),
    ];
    for (percent, total, expected) in rows {
        assert_eq!(most(percent, total), expected, "{percent} % of {total}");
    }
}

/// A fleet in which some backends fail every call, for thirty seconds. Returns who is out at the end, and checks the
/// bound at every step.
fn fleet(total: usize, bad: usize) -> Vec<usize> {
    let start = Instant::now();
    let settings = Settings::default();
    let mut backends: Vec<_> = (0..total).map(|_| Detector::new(settings, start)).collect();
    for step in 0..300_u32 {
        let now = start + Duration::from_millis(100) * step;
        for index in 0..total {
            let outcome = verdict(if index < bad { 'h' } else { 's' });
            let random = step.wrapping_mul(2_654_435_761);
            let trip = match backends[index].admit(now) {
                Admission::Serve => backends[index].observe(&outcome, now),
                Admission::Probe => backends[index].probed(&outcome, now, random),
                Admission::Refuse => None,
            };
            let out = backends.iter().filter(|backend| backend.is_ejected()).count();
            if trip.is_some() && settings.may_eject(total, out) {
                backends[index].eject(now, random);
            }
            let out = backends.iter().filter(|backend| backend.is_ejected()).count();
            assert!(out < total.max(1) && out <= (total / 2).max(1), "{out} of {total}");
        }
    }
    (0..total).filter(|index| backends[*index].is_ejected()).collect()
}

#[test]
fn small_and_large_fleets_keep_what_serves() {
    assert_eq!(fleet(1, 1), [0_usize; 0]);
    assert_eq!(fleet(2, 0), [0_usize; 0]);
    assert_eq!(fleet(2, 1), [0]);
    assert_eq!(fleet(2, 2).len(), 1, "all bad: half of them stays, since something must answer");
    assert_eq!(fleet(3, 1), [0]);
    assert_eq!(fleet(3, 3).len(), 1);
    assert_eq!(fleet(4, 2), [0, 1]);
    assert_eq!(fleet(4, 4).len(), 2);
    assert_eq!(fleet(100, 7), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(fleet(100, 100).len(), 50);
}

/// The definition, without rings or running counts: the whole log, read anew each time.
struct Model {
    log: Vec<(u64, char)>,
    out: Option<(u64, u32, bool)>,
    n: u32,
    since: u64,
}

impl Model {
    fn observe(&mut self, letter: char, millis: u64) -> Option<Trip> {
        if self.out.is_some() {
            return None;
        }
        self.log.push((millis, letter));
        let told: String =
            self.log.iter().map(|(_, letter)| *letter).filter(|l| !"on".contains(*l)).collect();
        let failing = "ho".contains(letter);
        if letter == 'h' && told.len() - told.trim_end_matches('h').len() >= 5 {
            return Some(Trip::ConsecutiveFailures);
        }
        let recent = self.log.iter().filter(|(at, l)| at / 1000 + 10 > millis / 1000 && *l != 'n');
        let values: Vec<u32> = recent
            .map(|(_, l)| match l {
                'h' => 0,
                'o' => 1,
                _ => 2,
            })
            .collect();
        let percent = 50 * values.iter().sum::<u32>();
        let low = values.len() >= 20 && percent < 80 * values.len() as u32;
        (failing && low).then_some(Trip::SuccessRate)
    }

    fn eject(&mut self, millis: u64) {
        if self.out.is_none() {
            let healthy = ((millis - self.since) / 10_000) as u32;
            self.go(self.n.saturating_sub(healthy) + 1, millis);
        }
    }

    fn go(&mut self, n: u32, millis: u64) {
        let n = n.min(12);
        self.log.clear();
        self.out = Some((millis + 5000 * u64::from(n), n, false));
    }

    fn admit(&mut self, millis: u64) -> Admission {
        match &mut self.out {
            None => Admission::Serve,
            Some((until, _, probing)) if millis >= *until => {
                (*until, *probing) = (millis + 5000, true);
                Admission::Probe
            }
            Some(_) => Admission::Refuse,
        }
    }

    fn probed(&mut self, letter: char, millis: u64) -> Option<Trip> {
        let Some((_, n, true)) = self.out else { return self.observe(letter, millis) };
        match letter {
            's' | 'c' => (self.out, self.n, self.since) = (None, n, millis),
            'h' => self.go(n + 1, millis),
            'o' => self.go(n, millis),
            _ => self.out = Some((millis, n, false)),
        }
        None
    }
}

fn step() -> impl Strategy<Value = (u64, char, u8)> {
    let wait = prop_oneof![4 => 0_u64..300, 1 => 0_u64..12_000];
    let letter = prop_oneof![4 => Just('h'), 3 => Just('s'), 2 => Just('o'), 1 => Just('c'), 1 => Just('n')];
    (wait, letter, 0_u8..8)
}

proptest! {
    /// Whatever calls end and whenever, trips, admissions and states are those of the definition.
    #[test]
    fn the_detector_matches_the_definition(steps in prop::collection::vec(step(), 1..200)) {
        let (mut detector, start) = fresh();
        let mut model = Model { log: Vec::new(), out: None, n: 0, since: 0 };
        let mut millis = 0;
        for (wait, letter, choice) in steps {
            millis += wait;
            let now = start + Duration::from_millis(millis);
            let admission = detector.admit(now);
            prop_assert_eq!(admission, model.admit(millis));
            let (trip, expected) = if admission == Admission::Probe && choice != 7 {
                (detector.probed(&verdict(letter), now, HALF), model.probed(letter, millis))
            } else {
                (detector.observe(&verdict(letter), now), model.observe(letter, millis))
            };
            prop_assert_eq!(trip, expected);
            // Some trips are not granted, as in a fleet that has too many out.
            if trip.is_some() && choice > 2 {
                detector.eject(now, HALF);
                model.eject(millis);
            }
            let state = match model.out {
                None => State::Serving { n: model.n, since: start + Duration::from_millis(model.since) },
                Some((until, n, false)) => State::Ejected { until: start + Duration::from_millis(until), n },
                Some((until, n, true)) => State::Probing { until: start + Duration::from_millis(until), n },
            };
            prop_assert_eq!(detector.state(), state);
        }
    }

    /// A clock that goes back a little, as between threads, neither panics nor loses what was counted.
    #[test]
    fn a_clock_that_goes_back_loses_nothing(times in prop::collection::vec(0_u64..5000, 20..60)) {
        let (mut detector, start) = fresh();
        let mut last = None;
        for millis in times {
            last = detector.observe(&verdict('o'), start + Duration::from_millis(millis));
        }
        prop_assert_eq!(last, Some(Trip::SuccessRate));
    }
}
