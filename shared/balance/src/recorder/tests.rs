//! What the recorder keeps.

use super::*;
use crate::{Policy, Settings, fixture::Fixture};

fn recording(picks: usize) -> Fixture {
    Fixture::weighted(&[1, 2], Settings { recorded_picks: picks, ..Settings::default() })
}

#[test]
fn the_last_picks_are_kept_newest_first() {
    let fixture = recording(5);
    (0..20).for_each(|_| drop(fixture.pick()));
    let tickets: Vec<u64> = fixture.backends.recorded().iter().map(|record| record.ticket).collect();
    assert_eq!(tickets, [19, 18, 17, 16, 15, 14, 13, 12], "five, rounded up to eight");
    let off = recording(0);
    drop(off.pick());
    assert!(off.backends.recorded().is_empty());
}

#[test]
fn a_record_has_everybody_as_they_were_before_the_call() {
    let fixture = recording(4);
    let held = [fixture.pick(), fixture.pick()];
    let record = fixture.last();
    assert_eq!((record.at, record.policy, record.tried), (fixture.now, Policy::LeastConnections, 0));
    assert_eq!((record.chosen.as_deref(), record.others), (Some("b1:1"), 0));
    let seen: Vec<_> =
        record.candidates.iter().map(|c| (c.address.as_str(), c.in_flight, c.standing)).collect();
    assert_eq!(seen, [("b0:1", 0, Standing::Score(1.0)), ("b1:1", 1, Standing::Score(1.0))]);
    assert_eq!(record.reason.to_string(), "tie");
    drop(held);
}

#[test]
fn of_many_backends_the_first_are_kept_and_the_rest_counted() {
    let fixture = Fixture::equal(40, Policy::LeastConnections);
    drop(fixture.pick());
    let record = fixture.last();
    assert_eq!((record.candidates.len(), record.others), (RECORDED_CANDIDATES, 24));
    // Each of the forty has its turn.
    for _ in 0..40 {
        drop(fixture.pick());
        let (record, chosen) = (fixture.last(), fixture.last().chosen.unwrap());
        assert!(record.candidates.iter().any(|candidate| candidate.address == chosen), "{chosen}");
        assert_eq!((record.candidates.len(), record.others), (RECORDED_CANDIDATES, 24));
    }
}

#[test]
fn a_record_outlives_the_backends_it_names() {
    let fixture = recording(4);
    drop(fixture.pick());
    let chosen = fixture.last().chosen.unwrap();
    fixture.backends.reconcile(&[]);
    assert!(fixture.backends.pick(&fixture.ask()).is_err());
    let records = fixture.backends.recorded();
    assert_eq!((records[0].reason, records[0].candidates.len()), (Reason::NoneHealthy, 0));
    assert_eq!(records[1].chosen.as_deref(), Some(chosen.as_str()));
}

#[test]
fn a_slot_that_is_being_read_is_passed_over() {
    let recorder = Recorder::new(1);
    let list = List::new(Arc::new([]), Settings::default(), None);
    let now = Instant::now();
    let reading = recorder.slots[0].lock().unwrap();
    recorder.trace(7, &list, now, 0).finish(None, Reason::Full);
    drop(reading);
    assert!(recorder.recorded().is_empty());
    recorder.trace(8, &list, now, 0).finish(None, Reason::Full);
    assert_eq!(recorder.recorded()[0].ticket, 8);
}
