//! Dead letters, counts and retention.

use uuid::Uuid;

use super::{START, Store, bury, change, claim, get, insert, new_job, succeed};
use crate::{
    job::{Event, NewJob, Queue, machine::Command},
    jobs::{DeadPage, Depth},
};

pub(in crate::jobs) async fn c14_dead_letters_page_without_gaps(store: Store) {
    let mut jobs: Vec<NewJob> = (1..=7).map(new_job).collect();
    jobs[5].queue = Queue::Chat;
    jobs[6].owner = "bob".into();
    insert(&store, &jobs).await;
    for number in 1..=7 {
        bury(&store, number, START + (number as i64) / 3).await; // some end at the same moment
    }
    let list = async |queue, limit| -> Vec<u128> {
        let mut page = DeadPage { owner: "ada".into(), queue, after: None, limit };
        let mut listed = Vec::new();
        loop {
            let jobs = store.jobs.dead(&page).await.unwrap();
            assert!(jobs.len() <= limit as usize);
            let Some(last) = jobs.last() else { return listed };
            page.after = Some((last.ended_at.unwrap(), last.id));
            listed.extend(jobs.iter().map(|job| job.id.as_u128()));
        }
    };
    assert_eq!(list(None, 2).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(list(None, 100).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(list(Some(Queue::Document), 2).await, [5, 4, 3, 2, 1]);
    assert_eq!(list(Some(Queue::Notification), 2).await, Vec::<u128>::new());
    change(&store, 3, Command::Discard, START).await.unwrap();
    assert_eq!(list(Some(Queue::Document), 2).await, [5, 4, 2, 1]);
}

pub(in crate::jobs) async fn c15_depths_count_by_state(store: Store) {
    let later = NewJob { due_at: START + 100, ..new_job(2) };
    let chat = NewJob { queue: Queue::Chat, due_at: START - 40, ..new_job(6) };
    insert(&store, &[new_job(1), later, new_job(3), new_job(4), new_job(5), chat]).await;
    claim(&store, 3, START).await.unwrap();
    bury(&store, 4, START).await;
    succeed(&store, 5, START).await;
    let empty = |queue| Depth {
        queue,
        ready: 0,
        scheduled: 0,
        running: 0,
        dead: 0,
        unpublished: 0,
        oldest_due: None,
    };
    let chat = Depth { ready: 1, unpublished: 1, oldest_due: Some(START - 40), ..empty(Queue::Chat) };
    let document = Depth {
        ready: 1,
        scheduled: 1,
        running: 1,
        dead: 1,
        unpublished: 1,
        oldest_due: Some(START),
        ..empty(Queue::Document)
    };
    let depths = store.jobs.depths(START).await.unwrap();
    assert_eq!(depths, [chat, document, empty(Queue::Notification)]);
    let due = store.jobs.reserve_unpublished(10, START + 1, START).await.unwrap();
    store.jobs.mark_published(&due, START).await.unwrap();
    assert!(store.jobs.depths(START).await.unwrap().iter().all(|depth| depth.unpublished == 0));
}

pub(in crate::jobs) async fn c16_forget_keeps_the_dead_and_the_living(store: Store) {
    insert(&store, &(1..=6).map(new_job).collect::<Vec<_>>()).await;
    succeed(&store, 1, START + 1).await;
    bury(&store, 2, START + 1).await;
    change(&store, 3, Command::Cancel, START + 1).await.unwrap();
    claim(&store, 4, START).await.unwrap();
    let epoch = claim(&store, 5, START).await.unwrap().job.epoch;
    let events = vec![Event::Output { text: "a".into() }, Event::Output { text: "b".into() }];
    change(&store, 5, Command::Succeed { epoch, events }, START + 50).await.unwrap();
    let left = async || -> Vec<u128> {
        let ids: Vec<Uuid> = (1..=6).map(Uuid::from_u128).collect();
        let mut left: Vec<u128> =
            store.jobs.get(&ids).await.unwrap().iter().map(|job| job.id.as_u128()).collect();
        left.sort_unstable();
        left
    };
    store.jobs.forget(START + 1, START + 1, 100).await.unwrap();
    assert_eq!(left().await, [1, 2, 3, 4, 5, 6], "nothing ended before that");
    assert!(store.jobs.forget(START + 2, START + 51, 100).await.unwrap() >= 2);
    assert_eq!(left().await, [2, 4, 5, 6]);
    assert_eq!(store.jobs.events(Uuid::from_u128(1), 0, 10).await.unwrap(), []);
    let log = store.jobs.events(Uuid::from_u128(5), 0, 10).await.unwrap();
    assert_eq!(log.iter().map(|r| (r.sequence, r.event.clone())).collect::<Vec<_>>(), [(3, Event::Ended)]);
    assert_eq!(store.jobs.events(Uuid::from_u128(2), 0, 10).await.unwrap().len(), 1);
    assert_eq!(get(&store, 2).await.unwrap().errors.len(), 1, "a dead letter keeps its history");
}
