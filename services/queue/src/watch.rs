//! Watching jobs: who waits for news of which job, and how the news arrives.
//!
//! A watcher reads the job's log from the store, and is told when there is more: at once by a worker of this process,
//! else by one query that looks for all watched jobs together. While it waits it holds nothing but its place here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use uuid::Uuid;

use crate::jobs::Jobs;

/// How often other replicas' jobs are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The most jobs in one query.
const POLL_BATCH: usize = 500;

/// Everybody who watches a job in this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Watchers {
    watched: Arc<Mutex<HashMap<Uuid, watch::Sender<u64>>>>,
}

/// A place among the watchers of a job.
#[derive(Debug)]
pub struct Watcher {
    id: Uuid,
    heads: Option<watch::Receiver<u64>>,
    watchers: Watchers,
}

impl Watchers {
    /// Begins to watch a job. Events from now on are told of; those before are in the log.
    #[must_use]
    pub fn watch(&self, id: Uuid) -> Watcher {
        let mut watched = self.lock();
        let heads = watched.entry(id).or_insert_with(|| watch::channel(0).0).subscribe();
        Watcher { id, heads: Some(heads), watchers: self.clone() }
    }

    /// Tells a job's watchers of its last sequence number.
    pub fn tell(&self, id: Uuid, last_sequence: u64) {
        if let Some(heads) = self.lock().get(&id) {
            heads.send_if_modified(|head| {
                let news = last_sequence > *head;
                *head = last_sequence.max(*head);
                news
            });
        }
    }

    /// How many jobs are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody watches anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks for news of all watched jobs for ever.
    pub async fn poll(self, jobs: Arc<dyn Jobs>) {
        let mut interval = tokio::time::interval(POLL_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let ids: Vec<Uuid> = self.lock().keys().copied().collect();
            for batch in ids.chunks(POLL_BATCH) {
                // A store that is down has news when it is back.
                for (id, head) in jobs.heads(batch).await.unwrap_or_default() {
                    self.tell(id, head);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, watch::Sender<u64>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Waits until the job has events after `sequence`.
    pub async fn news(&mut self, sequence: u64) {
        if let Some(heads) = &mut self.heads {
            // The sender lives as long as anybody watches.
            let _ = heads.wait_for(|head| *head > sequence).await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        self.heads = None;
        if watched.get(&self.id).is_some_and(|heads| heads.receiver_count() == 0) {
            watched.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_reach_the_watchers_of_that_job_only_and_nobody_is_forgotten_or_kept() {
        let watchers = Watchers::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut first = watchers.watch(one);
        let mut second = watchers.watch(one);
        let mut third = watchers.watch(other);
        watchers.tell(one, 3);
        first.news(2).await;
        second.news(0).await;
        assert!(tokio::time::timeout(Duration::from_millis(20), third.news(0)).await.is_err());
        assert_eq!(watchers.len(), 2);
        drop((first, third));
        assert_eq!(watchers.len(), 1);
        drop(second);
        assert!(watchers.is_empty());
    }

    #[tokio::test]
    async fn old_news_are_no_news() {
        let watchers = Watchers::default();
        let mut watcher = watchers.watch(Uuid::from_u128(1));
        watchers.tell(Uuid::from_u128(1), 5);
        watchers.tell(Uuid::from_u128(1), 4);
        watcher.news(4).await;
        assert!(tokio::time::timeout(Duration::from_millis(20), watcher.news(5)).await.is_err());
    }
}
