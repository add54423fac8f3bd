//! The line against its definition.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A step, in milliseconds from the start.
#[derive(Clone, Debug)]
enum Step {
    Push {
        batch: bool,
        wait: u64,
    },
    Pop,
    /// Takes the next one out and puts it back.
    Look,
    Remove(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), 0_u64..50).prop_map(|(batch, wait)| Step::Push { batch, wait }),
        2 => Just(Step::Pop),
        1 => Just(Step::Look),
        1 => (0_usize..64).prop_map(Step::Remove),
        2 => (0_u64..20).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

fn class(batch: bool) -> Class {
    if batch { Class::Batch } else { Class::Interactive }
}

proptest! {
    /// Everything that goes in comes out once: popped in order and in time, handed back as late, removed, or refused.
    #[test]
    fn the_line_does_what_a_sorted_list_does(limit in 0_usize..12, steps in steps()) {
        let start = Instant::now();
        let mut now = start;
        let mut queue = Queue::new(limit);
        // The line by definition: sorted by class, deadline and arrival.
        let mut model: Vec<(Place, u32)> = Vec::new();
        for (call, step) in (0_u32..).zip(steps) {
            match step {
                Step::Pass(millis) => now += Duration::from_millis(millis),
                Step::Push { batch, wait } => {
                    let deadline = now + Duration::from_millis(wait);
                    let pushed = queue.push(call, class(batch), deadline, now);
                    if wait == 0 {
                        prop_assert_eq!(pushed, Err(Refused::Late(call)));
                    } else if model.len() >= limit {
                        prop_assert_eq!(pushed, Err(Refused::Full(call)));
                    } else {
                        let place = pushed.unwrap();
                        prop_assert_eq!((place.class(), place.deadline()), (class(batch), deadline));
                        model.push((place, call));
                        model.sort();
                    }
                }
                Step::Pop => {
                    let (late, mut alive): (Vec<_>, Vec<_>) = model.drain(..).partition(|(place, _)| place.deadline() <= now);
                    let next = (!alive.is_empty()).then(|| alive.remove(0));
                    let late = late.into_iter().map(|(_, call)| call).collect();
                    prop_assert_eq!(queue.pop(now), Popped { next, late });
                    model = alive;
                }
                Step::Look => {
                    let Popped { next, late } = queue.pop(now);
                    model.retain(|(place, _)| place.deadline() > now);
                    prop_assert!(late.iter().all(|call| model.iter().all(|(_, other)| other != call)));
                    if let Some((place, call)) = next {
                        queue.restore(place, call);
                    }
                }
                Step::Remove(which) if !model.is_empty() => {
                    let (place, call) = model.remove(which % model.len());
                    prop_assert_eq!(queue.remove(&place), Some(call));
                    prop_assert_eq!(queue.remove(&place), None, "only once");
                }
                Step::Remove(_) => {}
            }
            prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(queue.next_deadline(), model.iter().map(|(place, _)| place.deadline()).min());
        }
    }
}

#[test]
fn interactive_calls_go_before_batch_and_early_deadlines_before_late_ones() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let mut queue = Queue::new(8);
    for (call, class, deadline) in [
        ("batch", Class::Batch, 1),
        ("patient", Class::Interactive, 9),
        ("urgent", Class::Interactive, 3),
        ("second", Class::Interactive, 9),
    ] {
        queue.push(call, class, at(deadline), now).unwrap();
    }
    let mut pop = |at| {
        let Popped { next, late } = queue.pop(at);
        (next.map(|(_, call)| call), late)
    };
    assert_eq!(pop(now), (Some("urgent"), vec![]));
    assert_eq!(pop(at(1)), (Some("patient"), vec!["batch"]), "in the order they came");
    assert_eq!(pop(at(9)), (None, vec!["second"]));
}

#[test]
fn a_lowered_limit_refuses_but_does_not_evict() {
    let now = Instant::now();
    let mut queue = Queue::new(2);
    for call in 0..2 {
        queue.push(call, Class::Batch, now + Duration::from_secs(1), now).unwrap();
    }
    queue.set_limit(1);
    assert_eq!(queue.len(), 2);
    let refused = queue.push(2, Class::Interactive, now + Duration::from_secs(1), now);
    assert_eq!(refused, Err(Refused::Full(2)));
}
