//! Random histories: the store must end where the state machine alone would.

use std::collections::HashMap;

use uuid::Uuid;

use super::{START, Store, new_job};
use crate::{
    job::{
        Event, Job, Recorded,
        machine::{self, Command},
    },
    jobs::{Change, Rejection},
};

const JOBS: u128 = 4;
const ROUNDS: usize = 60;

/// Jobs and their logs, in memory.
#[derive(Default)]
struct Model {
    jobs: HashMap<Uuid, Job>,
    logs: HashMap<Uuid, Vec<Recorded>>,
}

impl Model {
    fn apply(&mut self, change: &Change, now: i64) -> Result<Job, Rejection> {
        let job = self.jobs.get_mut(&change.id).ok_or(Rejection::NotFound)?;
        let events = machine::apply(job, &change.command, now).map_err(Rejection::Refused)?;
        let log = self.logs.entry(change.id).or_default();
        let first = job.last_sequence + 1 - events.len() as u64;
        for (sequence, event) in (first..).zip(events) {
            log.retain(|recorded| recorded.sequence != sequence);
            log.push(Recorded { sequence, event });
        }
        Ok(job.clone())
    }
}

pub(in crate::jobs) async fn the_store_does_what_the_model_does(store: Store) {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = Model::default();
    let new: Vec<_> = (1..=JOBS).map(new_job).collect();
    for inserted in store.jobs.insert(&new, START).await.unwrap() {
        model.jobs.insert(inserted.job.id, inserted.job);
    }
    let mut now = START;
    for round in 0..ROUNDS {
        now += random.i64(0..20);
        let changes: Vec<Change> =
            (0..random.usize(1..6)).map(|_| change(&model, &mut random, now)).collect();
        let expected: Vec<_> = changes.iter().map(|change| model.apply(change, now)).collect();
        let outcomes = store.jobs.apply(&changes, now).await.unwrap();
        assert_eq!(outcomes, expected, "seed {seed}, round {round}: {changes:?}");
    }
    for (id, job) in &model.jobs {
        assert_eq!(store.jobs.get(&[*id]).await.unwrap().pop().as_ref(), Some(job), "seed {seed}");
        let log = store.jobs.events(*id, 0, 10_000).await.unwrap();
        assert_eq!(&log, model.logs.get(id).unwrap_or(&Vec::new()), "seed {seed}");
        let numbers: Vec<u64> = log.iter().map(|recorded| recorded.sequence).collect();
        assert_eq!(numbers, (1..=job.last_sequence).collect::<Vec<u64>>(), "seed {seed}");
    }
}

fn change(model: &Model, random: &mut fastrand::Rng, now: i64) -> Change {
    let id = Uuid::from_u128(random.u128(1..=JOBS + 1));
    // Mostly the right epoch, sometimes one that was.
    let epoch =
        model.jobs.get(&id).map_or(0, |job| job.epoch).saturating_sub(u64::from(random.u8(0..8) == 0));
    let events = vec![Event::Output { text: random.u8(..).to_string() }; random.usize(0..3)];
    let (lease_until, retry_at) = (now + random.i64(1..30), now + random.i64(0..10));
    let command = match random.u8(0..16) {
        0..5 => Command::Claim { worker: "w".into(), lease_until },
        5..7 => Command::Advance { epoch, lease_until: Some(lease_until), events },
        7 => Command::Succeed { epoch, events },
        8..10 => Command::Fail { epoch, error: "failed".into(), retry_at },
        10 => Command::Bury { epoch, error: "buried".into() },
        11 => Command::Release { epoch },
        12 => Command::Expire { epoch, retry_at },
        13 => Command::Cancel,
        14 => Command::Redrive,
        _ => {
            if random.bool() {
                Command::Discard
            } else {
                Command::Abandon { epoch }
            }
        }
    };
    Change::new(id, command)
}
