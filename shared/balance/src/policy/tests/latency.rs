//! Peak EWMA.

use std::time::Duration;

use crate::{Ask, Policy, Settings, fixture::Fixture, verdict::PENALTY};

/// 1000 calls, one every millisecond; `call` says what one takes at a backend and whether it fails.
fn run(fixture: &Fixture, call: impl Fn(usize) -> (u64, bool)) -> Vec<u64> {
    let mut counts = vec![0; fixture.list().len()];
    let mut running = Vec::new();
    for millis in 0..1000 {
        let now = fixture.now + Duration::from_millis(millis);
        running.retain(|(end, fails, call): &(u64, bool, crate::InFlight)| {
            let ends = *end <= millis;
            if ends {
                if *fails { call.failed(PENALTY, now) } else { call.first_byte(now) }
            }
            !ends
        });
        let picked = fixture.backends.pick(&Ask::at(now)).unwrap();
        let index = fixture.index(&picked);
        counts[index] += 1;
        let (took, fails) = call(index);
        running.push((millis + took, fails, picked));
    }
    counts
}

#[test]
fn a_slow_backend_gets_less_than_a_fast_one() {
    let fixture = Fixture::equal(3, Policy::PeakEwma);
    let counts = run(&fixture, |index| (if index == 0 { 200 } else { 20 }, false));
    assert!(counts[0] * 5 < counts[1] && counts[1].abs_diff(counts[2]) < 100, "{counts:?}");
}

#[test]
fn a_backend_that_fails_fast_does_not_attract_calls() {
    let fixture = Fixture::equal(3, Policy::PeakEwma);
    let counts = run(&fixture, |index| if index == 0 { (1, true) } else { (20, false) });
    assert!(counts[0] <= 3, "{counts:?}");
}

#[test]
fn weights_decide_among_equally_fast_ones() {
    let fixture = Fixture::weighted(&[1, 3], Settings { policy: Policy::PeakEwma, ..Settings::default() });
    let counts = run(&fixture, |_| (100, false));
    let ratio = counts[1] as f64 / counts[0] as f64;
    assert!((2.6..3.4).contains(&ratio), "{counts:?}");
}

#[test]
fn a_slow_one_is_tried_again_when_its_past_has_faded() {
    let fixture = Fixture::equal(2, Policy::PeakEwma);
    let list = fixture.list();
    list[0].penalise(PENALTY, fixture.now);
    let later = |seconds| fixture.now + Duration::from_secs(seconds);
    let zeros = |now| {
        list[1].sample(Duration::from_millis(20), now);
        (0..10).filter(|_| fixture.index(&fixture.backends.pick(&Ask::at(now)).unwrap()) == 0).count()
    };
    assert_eq!([zeros(later(1)), zeros(later(30)), zeros(later(100))], [0, 0, 10]);
}
