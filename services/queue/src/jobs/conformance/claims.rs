//! Leasing jobs, changing them, and being fenced.

use futures::future::join_all;
use uuid::Uuid;

use super::{LEASE, START, Store, change, claim, get, insert, new_job};
use crate::{
    job::{
        Event, NewJob, Queue, State,
        machine::{Command, Refusal},
    },
    jobs::{Change, Rejection},
};

pub(in crate::jobs) async fn c05_due_lists_what_is_due_longest_first(store: Store) {
    let at = |number, due_at| NewJob { due_at, ..new_job(number) };
    let elsewhere = NewJob { queue: Queue::Chat, ..new_job(9) };
    insert(&store, &[at(1, START - 1), at(2, START - 9), at(3, START + 1), at(4, START), elsewhere]).await;
    let due = async |limit, now| -> Vec<u128> {
        let due = store.jobs.due(Queue::Document, limit, now).await.unwrap();
        due.into_iter().map(|job| job.id.as_u128()).collect()
    };
    assert_eq!(due(10, START).await, [2, 1, 4]);
    assert_eq!(due(10, START).await, [2, 1, 4], "looking changes nothing");
    assert_eq!(due(2, START + 1).await, [2, 1]);
    claim(&store, 2, START).await.unwrap();
    assert_eq!(due(10, START + 1).await, [1, 4, 3]);
}

pub(in crate::jobs) async fn c06_claim_leases_what_is_due_once(store: Store) {
    let later = NewJob { due_at: START + 10, ..new_job(3) };
    insert(&store, &[new_job(1), new_job(2), later]).await;
    let ids = [3, 2, 1, 7].map(Uuid::from_u128);
    let claimed = store.jobs.claim(&ids, "first", START + LEASE, START).await.unwrap();
    let mut got: Vec<u128> = claimed.iter().map(|claimed| claimed.job.id.as_u128()).collect();
    got.sort_unstable();
    assert_eq!(got, [1, 2], "the third is not due, the fourth is none");
    for claimed in &claimed {
        let job = &claimed.job;
        assert_eq!((job.state, job.attempts, job.epoch), (State::Running, 1, 1));
        assert_eq!((job.worker.as_deref(), job.lease_until), (Some("first"), Some(START + LEASE)));
        assert_eq!(claimed.payload, format!("payload {}", job.id.as_u128()).into_bytes());
        assert_eq!(get(&store, job.id.as_u128()).await.as_ref(), Some(job));
    }
    assert_eq!(store.jobs.claim(&ids, "second", START + LEASE, START).await.unwrap(), []);
}

pub(in crate::jobs) async fn c06_concurrent_claims_have_one_winner(store: Store) {
    let jobs: Vec<NewJob> = (1..=20).map(new_job).collect();
    insert(&store, &jobs).await;
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
    let claims = (0..8).map(|worker| {
        let (jobs, mut ids) = (store.jobs.clone(), ids.clone());
        ids.rotate_left(worker * 2);
        async move { jobs.claim(&ids, &format!("worker {worker}"), START + LEASE, START).await.unwrap() }
    });
    let claimed = join_all(claims).await.concat();
    let mut got: Vec<u128> = claimed.iter().map(|claimed| claimed.job.id.as_u128()).collect();
    got.sort_unstable();
    let mut distinct = got.clone();
    distinct.dedup();
    assert_eq!(got, distinct, "no job was claimed twice");
    assert!(claimed.iter().all(|claimed| claimed.job.epoch == 1));
}

pub(in crate::jobs) async fn c07_changes_apply_in_order_and_number_events(store: Store) {
    insert(&store, &[new_job(1)]).await;
    let epoch = claim(&store, 1, START).await.unwrap().job.epoch;
    let say = |text: &str| Event::Output { text: text.into() };
    let id = Uuid::from_u128(1);
    let advance = |events| Change::new(id, Command::Advance { epoch, lease_until: Some(START + 99), events });
    let succeed = Change::new(id, Command::Succeed { epoch, events: vec![say("c")] });
    let changes = [advance(vec![say("a"), say("b")]), advance(Vec::new()), succeed];
    let outcomes = store.jobs.apply(&changes, START + 5).await.unwrap();
    let sequences: Vec<u64> = outcomes.iter().map(|job| job.as_ref().unwrap().last_sequence).collect();
    assert_eq!(sequences, [2, 2, 4]);
    let job = get(&store, 1).await.unwrap();
    assert_eq!((job.state, job.ended_at, job.lease_until), (State::Succeeded, Some(START + 5), None));
    let log = store.jobs.events(id, 0, 10).await.unwrap();
    let expected = [(1, say("a")), (2, say("b")), (3, say("c")), (4, Event::Ended)];
    assert_eq!(log.into_iter().map(|r| (r.sequence, r.event)).collect::<Vec<_>>(), expected);
}

pub(in crate::jobs) async fn c07_refused_changes_leave_the_others_in_force(store: Store) {
    insert(&store, &[new_job(1), new_job(2)]).await;
    let before = get(&store, 1).await.unwrap();
    let change = |number, command| Change::new(Uuid::from_u128(number), command);
    let changes = [change(1, Command::Redrive), change(2, Command::Cancel), change(3, Command::Cancel)];
    let outcomes = store.jobs.apply(&changes, START).await.unwrap();
    assert_eq!(outcomes[0], Err(Rejection::Refused(Refusal::NotDead)));
    assert_eq!(outcomes[1].as_ref().map(|job| job.state), Ok(State::Cancelled));
    assert_eq!(outcomes[2], Err(Rejection::NotFound));
    assert_eq!(get(&store, 1).await, Some(before));
    assert_eq!(get(&store, 2).await.unwrap().state, State::Cancelled);
}

pub(in crate::jobs) async fn c07_a_stalled_worker_is_fenced(store: Store) {
    insert(&store, &[new_job(1)]).await;
    let stalled = claim(&store, 1, START).await.unwrap().job;
    let over = START + LEASE;
    let expire = Command::Expire { epoch: stalled.epoch, retry_at: over };
    change(&store, 1, expire, over).await.unwrap();
    let heir = claim(&store, 1, over).await.unwrap().job;
    assert_eq!((heir.attempts, heir.epoch), (2, stalled.epoch + 1));
    let lost = Err(Rejection::Refused(Refusal::LeaseLost));
    let epoch = stalled.epoch;
    let words = vec![Event::Output { text: "from the grave".into() }];
    for command in [
        Command::Succeed { epoch, events: words.clone() },
        Command::Advance { epoch, lease_until: Some(over + LEASE), events: words },
        Command::Fail { epoch, error: "late".into(), retry_at: over },
        Command::Bury { epoch, error: "late".into() },
        Command::Release { epoch },
        Command::Abandon { epoch },
    ] {
        assert_eq!(change(&store, 1, command, over).await, lost);
    }
    assert_eq!(get(&store, 1).await, Some(heir.clone()), "the heir has not noticed anything");
    let succeed = Command::Succeed { epoch: heir.epoch, events: Vec::new() };
    assert!(change(&store, 1, succeed, over).await.is_ok());
}

pub(in crate::jobs) async fn c08_an_owner_guards(store: Store) {
    insert(&store, &[new_job(1)]).await;
    let cancel =
        |owner: &str| Change { id: Uuid::from_u128(1), owner: Some(owner.into()), command: Command::Cancel };
    let outcomes = store.jobs.apply(&[cancel("bob"), cancel("ada")], START).await.unwrap();
    assert_eq!(outcomes[0], Err(Rejection::NotFound));
    assert_eq!(outcomes[1].as_ref().map(|job| job.state), Ok(State::Cancelled));
}

pub(in crate::jobs) async fn c09_events_come_in_order_from_anywhere(store: Store) {
    insert(&store, &[new_job(1), new_job(2)]).await;
    let epoch = claim(&store, 1, START).await.unwrap().job.epoch;
    for number in 1..=30 {
        let events = vec![Event::Progress { stage: "embed".into(), done: number, total: 30 }];
        change(&store, 1, Command::Advance { epoch, lease_until: None, events }, START).await.unwrap();
    }
    let id = Uuid::from_u128(1);
    let sequences = async |after, limit| -> Vec<u64> {
        let events = store.jobs.events(id, after, limit).await.unwrap();
        events.into_iter().map(|recorded| recorded.sequence).collect()
    };
    assert_eq!(sequences(0, 100).await, (1..=30).collect::<Vec<u64>>());
    assert_eq!(sequences(12, 3).await, [13, 14, 15]);
    assert_eq!(sequences(30, 3).await, Vec::<u64>::new());
    let mut heads = store.jobs.heads(&[1, 2, 3].map(Uuid::from_u128)).await.unwrap();
    heads.sort_unstable();
    assert_eq!(heads, [(id, 30), (Uuid::from_u128(2), 0)]);
}

pub(in crate::jobs) async fn c10_expired_lists_ended_leases(store: Store) {
    insert(&store, &[new_job(1), new_job(2), new_job(3)]).await;
    claim(&store, 1, START).await.unwrap();
    claim(&store, 2, START + 1).await.unwrap();
    let expired = async |now| -> Vec<u128> {
        let expired = store.jobs.expired(10, now).await.unwrap();
        expired.into_iter().map(|lease| lease.id.as_u128()).collect()
    };
    assert_eq!(expired(START + LEASE - 1).await, Vec::<u128>::new());
    assert_eq!(expired(START + LEASE).await, [1]);
    assert_eq!(expired(START + LEASE + 1).await, [1, 2]);
    assert_eq!(expired(START + LEASE + 1).await, [1, 2], "looking changes nothing");
    let job = get(&store, 1).await.unwrap();
    let advance =
        Command::Advance { epoch: job.epoch, lease_until: Some(START + 9 * LEASE), events: Vec::new() };
    change(&store, 1, advance, START).await.unwrap();
    assert_eq!(expired(START + LEASE + 1).await, [2], "a sign of life keeps the lease");
}
