//! What still has to be published.

use super::{LEASE, START, Store, change, claim, get, insert, new_job};
use crate::{
    job::{NewJob, Queue, machine::Command},
    jobs::Pending,
};

async fn reserve(store: &Store, now: i64) -> Vec<u128> {
    let mut ids: Vec<u128> = reserved(store, now).await.iter().map(|job| job.id.as_u128()).collect();
    ids.sort_unstable();
    ids
}

async fn reserved(store: &Store, now: i64) -> Vec<Pending> {
    store.jobs.reserve_unpublished(10, now + 10, now).await.unwrap()
}

pub(in crate::jobs) async fn c11_reserved_jobs_are_nobody_elses(store: Store) {
    let later = NewJob { due_at: START + 5, ..new_job(2) };
    insert(&store, &[new_job(1), later, new_job(3)]).await;
    claim(&store, 3, START).await.unwrap();
    assert_eq!(reserve(&store, START).await, [1], "one is not due, one is not waiting");
    assert_eq!(reserve(&store, START + 5).await, [2]);
    assert_eq!(reserve(&store, START + 9).await, Vec::<u128>::new());
    assert_eq!(reserve(&store, START + 10).await, [1], "whoever reserved it has not come back");
}

pub(in crate::jobs) async fn c11_marking_takes_off_for_good(store: Store) {
    insert(&store, &[new_job(1), new_job(2)]).await;
    let due = reserved(&store, START).await;
    let published = due.iter().find(|job| job.id.as_u128() == 1).unwrap();
    assert_eq!(published.traceparent, new_job(1).traceparent);
    assert_eq!((published.queue, published.epoch), (Queue::Document, 0));
    store.jobs.mark_published(std::slice::from_ref(published), START + 1).await.unwrap();
    assert_eq!(get(&store, 1).await.unwrap().published_at, Some(START + 1));
    assert_eq!(reserve(&store, START + 50).await, [2]);
    // The second is claimed, fails and waits again before its first publishing is confirmed.
    let stale = due.iter().find(|job| job.id.as_u128() == 2).unwrap();
    let epoch = claim(&store, 2, START).await.unwrap().job.epoch;
    change(&store, 2, Command::Fail { epoch, error: "e".into(), retry_at: START + 60 }, START).await.unwrap();
    store.jobs.mark_published(std::slice::from_ref(stale), START + 55).await.unwrap();
    assert_eq!(reserve(&store, START + 60).await, [2], "that confirm was for the attempt before");
}

pub(in crate::jobs) async fn c11_returned_jobs_are_anybodys(store: Store) {
    insert(&store, &[new_job(1), new_job(2), new_job(3)]).await;
    let due = reserved(&store, START).await;
    let (published, others): (Vec<Pending>, Vec<Pending>) =
        due.into_iter().partition(|job| job.id.as_u128() == 1);
    store.jobs.mark_published(&published, START + 1).await.unwrap();
    // The third is claimed, fails and waits again for longer than the return says.
    let epoch = claim(&store, 3, START).await.unwrap().job.epoch;
    change(&store, 3, Command::Fail { epoch, error: "e".into(), retry_at: START + 9 }, START).await.unwrap();
    store.jobs.return_unpublished(&[published, others].concat(), START + 3).await.unwrap();
    assert_eq!(reserve(&store, START + 2).await, Vec::<u128>::new());
    assert_eq!(reserve(&store, START + 3).await, [2], "before its reservation ends, and nobody else with it");
    assert_eq!(reserve(&store, START + 9).await, [3]);
}

pub(in crate::jobs) async fn c12_whoever_waits_again_is_unpublished(store: Store) {
    insert(&store, &[new_job(1), new_job(2), new_job(3), new_job(4)]).await;
    let due = reserved(&store, START).await;
    store.jobs.mark_published(&due, START).await.unwrap();
    let mut epochs = Vec::new();
    for number in 1..=4 {
        epochs.push(claim(&store, number, START).await.unwrap().job.epoch);
    }
    let now = START + LEASE;
    let retry = Command::Fail { epoch: epochs[0], error: "e".into(), retry_at: now };
    change(&store, 1, retry, now).await.unwrap();
    change(&store, 2, Command::Release { epoch: epochs[1] }, now).await.unwrap();
    change(&store, 3, Command::Expire { epoch: epochs[2], retry_at: now }, now).await.unwrap();
    change(&store, 4, Command::Bury { epoch: epochs[3], error: "e".into() }, now).await.unwrap();
    change(&store, 4, Command::Redrive, now).await.unwrap();
    assert_eq!(reserve(&store, now).await, [1, 2, 3, 4]);
}

pub(in crate::jobs) async fn c13_lost_deliveries_are_unpublished(store: Store) {
    let elsewhere = NewJob { queue: Queue::Chat, ..new_job(3) };
    insert(&store, &[new_job(1), new_job(2), elsewhere, new_job(4)]).await;
    let due = reserved(&store, START).await;
    let (old, new): (Vec<Pending>, Vec<Pending>) = due.into_iter().partition(|job| job.id.as_u128() != 2);
    store.jobs.mark_published(&old, START).await.unwrap();
    store.jobs.mark_published(&new, START + 9).await.unwrap();
    claim(&store, 4, START).await.unwrap();
    assert_eq!(store.jobs.unpublish(Queue::Document, START + 9).await.unwrap(), 1);
    assert_eq!(reserve(&store, START + 20).await, [1]);
}
