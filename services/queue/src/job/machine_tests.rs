//! The state machine: each path by an example, and what holds on all paths by random histories.

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    AttemptError, Event, Job, MAX_ERROR_BYTES, MAX_ERRORS, NewJob, Queue, State,
    machine::{Command, Refusal, apply},
};

fn job(max_attempts: u32) -> Job {
    let new = NewJob {
        id: Uuid::from_u128(1),
        queue: Queue::Chat,
        kind: "weft.queue.v1.ReplyToChat".into(),
        owner: "ada".into(),
        payload: Vec::new(),
        idempotency_key: None,
        max_attempts,
        due_at: 0,
        traceparent: String::new(),
        dead_on_arrival: None,
    };
    Job::begin(&new, 0)
}

fn claim(job: &mut Job, now: i64) -> u64 {
    apply(job, &Command::Claim { worker: "w".into(), lease_until: now + 30 }, now).unwrap();
    job.epoch
}

#[test]
fn attempts_run_out_and_leave_a_dead_letter_with_every_error() {
    let mut job = job(3);
    let mut events = Vec::new();
    for attempt in 1..=3 {
        let now = attempt * 10;
        let epoch = claim(&mut job, now);
        let fail = Command::Fail { epoch, error: format!("error {attempt}"), retry_at: now + 5 };
        events.extend(apply(&mut job, &fail, now).unwrap());
    }
    assert_eq!((job.state, job.attempts, job.ended_at), (State::Dead, 3, Some(30)));
    let messages: Vec<&str> = job.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["error 1", "error 2", "error 3"]);
    let error = |attempt: u32, time| AttemptError { attempt, time, message: format!("error {attempt}") };
    let retry = |attempt, time| Event::Retry { error: error(attempt, time), due_at: time + 5 };
    assert_eq!(events, [retry(1, 10), retry(2, 20), Event::Ended]);
}

#[test]
fn a_released_attempt_does_not_count() {
    let mut job = job(1);
    let epoch = claim(&mut job, 0);
    apply(&mut job, &Command::Release { epoch }, 1).unwrap();
    assert_eq!((job.state, job.attempts, job.errors.len(), job.due_at), (State::Waiting, 0, 0, 1));
    let epoch = claim(&mut job, 1);
    assert_eq!(epoch, 2, "but the lease is another");
    apply(&mut job, &Command::Succeed { epoch, events: Vec::new() }, 2).unwrap();
    assert_eq!(job.state, State::Succeeded);
}

#[test]
fn a_lease_expires_only_when_it_is_over_and_the_attempt_counts() {
    let mut job = job(2);
    let epoch = claim(&mut job, 0);
    let expire = Command::Expire { epoch, retry_at: 40 };
    assert_eq!(apply(&mut job, &expire, 29), Err(Refusal::LeaseLost));
    apply(&mut job, &expire, 30).unwrap();
    assert_eq!((job.state, job.attempts, job.due_at), (State::Waiting, 1, 40));
    assert!(job.errors[0].message.contains("not heard of"));
}

#[test]
fn a_running_job_is_cancelled_by_its_worker_or_when_the_attempt_ends_otherwise() {
    let request = |job: &mut Job| {
        let epoch = claim(job, 0);
        assert_eq!(apply(job, &Command::Cancel, 1), Ok(Vec::new()));
        assert!(job.cancel_requested && job.state == State::Running);
        epoch
    };
    let endings: [fn(u64) -> Command; 4] = [
        |epoch| Command::Abandon { epoch },
        |epoch| Command::Fail { epoch, error: "e".into(), retry_at: 9 },
        |epoch| Command::Expire { epoch, retry_at: 40 },
        |epoch| Command::Release { epoch },
    ];
    for ending in endings {
        let mut job = job(5);
        let epoch = request(&mut job);
        assert_eq!(apply(&mut job, &ending(epoch), 30), Ok(vec![Event::Ended]));
        assert_eq!(job.state, State::Cancelled);
    }
    let mut done = job(5);
    let epoch = request(&mut done);
    apply(&mut done, &Command::Succeed { epoch, events: Vec::new() }, 2).unwrap();
    assert_eq!(done.state, State::Succeeded, "too late to cancel");
}

#[test]
fn cancelling_twice_is_cancelling_once() {
    let mut job = job(5);
    assert_eq!(apply(&mut job, &Command::Cancel, 1), Ok(vec![Event::Ended]));
    let before = job.clone();
    assert_eq!(apply(&mut job, &Command::Cancel, 2), Ok(Vec::new()));
    assert_eq!(job, before);
}

#[test]
fn a_redriven_job_has_a_fresh_budget_its_history_and_an_unbroken_log() {
    let mut job = job(1);
    let epoch = claim(&mut job, 0);
    apply(&mut job, &Command::Bury { epoch, error: "poison".into() }, 1).unwrap();
    let ended_as = job.last_sequence;
    let events = apply(&mut job, &Command::Redrive, 9).unwrap();
    assert!(matches!(&events[..], [Event::Retry { error, due_at: 9 }] if error.message == "poison"));
    assert_eq!(job.last_sequence, ended_as, "the retry takes the place of the end");
    assert_eq!((job.state, job.attempts, job.errors.len(), job.ended_at), (State::Waiting, 0, 1, None));
    assert!(claim(&mut job, 9) > epoch);
}

#[test]
fn histories_and_messages_are_bounded() {
    let mut job = job(100);
    for attempt in 1..=50 {
        let epoch = claim(&mut job, attempt);
        let error = "é".repeat(MAX_ERROR_BYTES);
        apply(&mut job, &Command::Fail { epoch, error, retry_at: attempt + 1 }, attempt).unwrap();
    }
    assert_eq!(job.errors.len(), MAX_ERRORS);
    assert_eq!(job.errors.last().unwrap().attempt, 50, "the last ones are kept");
    assert!(job.errors.iter().all(|error| error.message.len() <= MAX_ERROR_BYTES));
}

fn commands() -> impl Strategy<Value = Command> {
    let epoch = 0u64..6;
    prop_oneof![
        4 => (1i64..40).prop_map(|until| Command::Claim { worker: "w".into(), lease_until: until }),
        2 => epoch.clone().prop_map(|epoch| Command::Advance { epoch, lease_until: None, events: vec![Event::Output { text: "t".into() }] }),
        1 => epoch.clone().prop_map(|epoch| Command::Succeed { epoch, events: Vec::new() }),
        3 => (epoch.clone(), 0i64..40).prop_map(|(epoch, retry_at)| Command::Fail { epoch, error: "e".into(), retry_at }),
        1 => epoch.clone().prop_map(|epoch| Command::Bury { epoch, error: "e".into() }),
        1 => epoch.clone().prop_map(|epoch| Command::Abandon { epoch }),
        2 => epoch.clone().prop_map(|epoch| Command::Release { epoch }),
        2 => (epoch, 0i64..40).prop_map(|(epoch, retry_at)| Command::Expire { epoch, retry_at }),
        1 => Just(Command::Cancel),
        2 => Just(Command::Redrive),
        1 => Just(Command::Discard),
    ]
}

/// The lease under which a worker's command is given.
fn lease(command: &Command) -> Option<u64> {
    match command {
        Command::Advance { epoch, .. }
        | Command::Succeed { epoch, .. }
        | Command::Fail { epoch, .. }
        | Command::Bury { epoch, .. }
        | Command::Abandon { epoch }
        | Command::Release { epoch }
        | Command::Expire { epoch, .. } => Some(*epoch),
        Command::Claim { .. } | Command::Cancel | Command::Redrive | Command::Discard => None,
    }
}

proptest! {
    #[test]
    fn on_every_path(history in prop::collection::vec((commands(), 0i64..3), 0..80)) {
        let mut job = job(3);
        let mut now = 0;
        for (command, pause) in history {
            now += pause;
            let before = job.clone();
            let outcome = apply(&mut job, &command, now);
            let fenced = lease(&command).is_some_and(|epoch| before.state != State::Running || epoch != before.epoch);
            prop_assert!(!fenced || outcome == Err(Refusal::LeaseLost), "only the holder of the latest lease acts");
            match outcome {
                Err(_) => prop_assert_eq!(&job, &before, "a refusal changes nothing"),
                Ok(events) => {
                    let replaced = matches!(command, Command::Redrive) as u64;
                    prop_assert_eq!(job.last_sequence + replaced, before.last_sequence + events.len() as u64);
                    let has_ended = job.state.has_ended() && !before.state.has_ended();
                    prop_assert_eq!(events.last() == Some(&Event::Ended), has_ended);
                }
            }
            prop_assert!(job.attempts <= job.max_attempts);
            prop_assert!(job.epoch >= before.epoch && job.epoch <= before.epoch + 1);
            prop_assert_eq!(job.epoch > before.epoch, before.state == State::Waiting && job.state == State::Running);
            prop_assert_eq!(job.state.has_ended(), job.ended_at.is_some());
            prop_assert_eq!(job.state == State::Running, job.lease_until.is_some() && job.worker.is_some());
            let final_states = [State::Succeeded, State::Cancelled];
            prop_assert!(!final_states.contains(&before.state) || job.state == before.state, "the end is the end");
            prop_assert!(before.state != State::Dead || job.state != State::Running, "nobody works on a dead letter");
        }
    }
}
