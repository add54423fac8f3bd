//! Storing jobs, and finding them again.

use futures::future::join_all;

use super::{START, Store, change, claim, get, insert, new_job};
use crate::{
    job::{Event, NewJob, Queue, State, machine::Command},
    jobs::Jobs,
};

pub(in crate::jobs) async fn c01_insert_stores_all_and_returns_them_in_order(store: Store) {
    let jobs = [new_job(3), new_job(1), new_job(2)];
    let inserted = insert(&store, &jobs).await;
    for (new, inserted) in jobs.iter().zip(&inserted) {
        assert!(!inserted.existed);
        assert_eq!(inserted.job.id, new.id);
        assert_eq!(inserted.job.state, State::Waiting);
        assert_eq!(inserted.job.created_at, START);
        assert_eq!(get(&store, new.id.as_u128()).await.as_ref(), Some(&inserted.job));
        assert_eq!(store.jobs.payload(new.id).await.unwrap().as_ref(), Some(&new.payload));
    }
    assert_eq!(get(&store, 4).await, None);
    assert_eq!(store.jobs.payload(uuid::Uuid::from_u128(4)).await.unwrap(), None);
}

pub(in crate::jobs) async fn c02_a_known_id_or_key_returns_the_first_job(store: Store) {
    let keyed = |number, key: &str| NewJob { idempotency_key: Some(key.into()), ..new_job(number) };
    let first = insert(&store, &[keyed(1, "k"), keyed(2, "k"), keyed(3, "other")]).await;
    assert_eq!([first[0].existed, first[1].existed, first[2].existed], [false, true, false]);
    assert_eq!(first[1].job, first[0].job);
    let again = insert(&store, &[keyed(4, "k"), new_job(3), new_job(1)]).await;
    assert!(again.iter().all(|inserted| inserted.existed));
    assert_eq!(again.iter().map(|i| i.job.id.as_u128()).collect::<Vec<_>>(), [1, 3, 1]);
    assert_eq!(get(&store, 4).await, None);
    assert_eq!(again[0].job, first[0].job, "what was stored first is left alone");
}

pub(in crate::jobs) async fn c02_concurrent_inserts_of_one_key_make_one_job(store: Store) {
    let keyed = |number| NewJob { idempotency_key: Some("k".into()), ..new_job(number) };
    let inserts = (1..=12).map(|number| {
        let jobs = store.jobs.clone();
        async move { jobs.insert(&[keyed(number)], START).await.unwrap().remove(0) }
    });
    let inserted = join_all(inserts).await;
    assert_eq!(inserted.iter().filter(|inserted| !inserted.existed).count(), 1);
    assert!(inserted.iter().all(|one| one.job.id == inserted[0].job.id));
}

pub(in crate::jobs) async fn c03_keys_of_other_owners_and_queues_are_others(store: Store) {
    let keyed = |number| NewJob { idempotency_key: Some("k".into()), ..new_job(number) };
    let others = NewJob { owner: "bob".into(), ..keyed(2) };
    let elsewhere = NewJob { queue: Queue::Chat, ..keyed(3) };
    let inserted = insert(&store, &[keyed(1), others, elsewhere]).await;
    assert!(inserted.iter().all(|inserted| !inserted.existed));
}

pub(in crate::jobs) async fn c04_dead_on_arrival(store: Store) {
    let dead = NewJob { dead_on_arrival: Some("no handler".into()), ..new_job(1) };
    let inserted = insert(&store, std::slice::from_ref(&dead)).await.remove(0);
    assert_eq!((inserted.job.state, inserted.job.ended_at), (State::Dead, Some(START)));
    assert_eq!(inserted.job.errors[0].message, "no handler");
    let log = store.jobs.events(dead.id, 0, 10).await.unwrap();
    assert_eq!(log.iter().map(|recorded| recorded.event.clone()).collect::<Vec<_>>(), [Event::Ended]);
    assert_eq!(claim(&store, 1, START).await, None);
    change(&store, 1, Command::Redrive, START + 5).await.unwrap();
    assert!(claim(&store, 1, START + 5).await.is_some(), "it can be redriven once there is a handler");
}

pub(in crate::jobs) async fn c17_what_was_acknowledged_is_there_after_reopening(store: Store) {
    insert(&store, &[new_job(1), new_job(2)]).await;
    let claimed = claim(&store, 1, START).await.unwrap();
    let say = Event::Output { text: "half".into() };
    let advance = Command::Advance { epoch: claimed.job.epoch, lease_until: None, events: vec![say.clone()] };
    let before = change(&store, 1, advance, START).await.unwrap();
    let reopened: std::sync::Arc<dyn Jobs> = (store.reopen)().await;
    assert_eq!(reopened.get(&[before.id]).await.unwrap().pop(), Some(before.clone()));
    let log = reopened.events(before.id, 0, 10).await.unwrap();
    assert_eq!((log[0].sequence, &log[0].event), (1, &say));
    assert_eq!(reopened.due(Queue::Document, 10, START).await.unwrap().len(), 1);
}
