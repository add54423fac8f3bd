//! Readers and a writer at full speed: nobody may see a value older than a finished invalidation.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use weft_cache::store::{Lookup, Store};
use weft_proto::cache::v1::{GetRequest, get_response};
use weft_testkit::eventually;

use crate::fixture::{self, Fixture, SOON, item, key};

const NAME: &str = "chat:contended";

/// A row, and the oldest version of it that a cache may still answer.
#[derive(Default)]
pub(crate) struct Row {
    version: AtomicU64,
    oldest_allowed: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Row {
    /// Reads through the cache, and fills it on a miss with what the row holds.
    async fn read(&self, store: &impl Store) {
        let oldest_allowed = self.oldest_allowed.load(SeqCst);
        match store.lookup(&key(NAME)).await {
            Ok(Lookup::Hit(bytes)) => {
                let version = u64::from_be_bytes(bytes[..].try_into().unwrap());
                assert!(
                    version >= oldest_allowed,
                    "saw {version}, but {oldest_allowed} had been invalidated"
                );
                self.hits.fetch_add(1, SeqCst);
            }
            Ok(Lookup::Leased(lease)) => {
                let loaded = self.version.load(SeqCst);
                for _ in 0..fastrand::u8(..4) {
                    tokio::task::yield_now().await;
                }
                let filled = store.fill(&item(NAME, loaded.to_be_bytes().to_vec()), lease).await;
                self.failures.fetch_add(u64::from(filled.is_err()), SeqCst);
            }
            Ok(Lookup::Held) => {}
            Err(_) => drop(self.failures.fetch_add(1, SeqCst)),
        }
    }

    /// Changes the row, and repeats the invalidation or the set until it is confirmed, as an outbox does.
    async fn change(&self, store: &impl Store) {
        let version = self.version.fetch_add(1, SeqCst) + 1;
        let new = [item(NAME, version.to_be_bytes().to_vec())];
        loop {
            let confirmed = match version % 4 {
                0 => store.set(&new).await,
                _ => store.remove(&[key(NAME)]).await.map(drop),
            };
            if confirmed.is_ok() {
                break;
            }
            self.failures.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
        self.oldest_allowed.fetch_max(version, SeqCst);
        self.changes.fetch_add(1, SeqCst);
    }
}

/// Runs four readers and one writer over the replicas until told to stop.
pub(crate) async fn contend<S: Store>(row: &Arc<Row>, replicas: &[Arc<S>], stop: &CancellationToken) {
    let mut tasks = JoinSet::new();
    for reader in 0..4 {
        let (row, store, stop) =
            (Arc::clone(row), Arc::clone(&replicas[reader % replicas.len()]), stop.clone());
        tasks.spawn(async move {
            while !stop.is_cancelled() {
                row.read(&*store).await;
                // The memory store never waits; without this nobody else would get the thread.
                tokio::task::yield_now().await;
            }
        });
    }
    let (row, store, stop) = (Arc::clone(row), Arc::clone(&replicas[0]), stop.clone());
    tasks.spawn(async move {
        while !stop.is_cancelled() {
            row.change(&*store).await;
            for _ in 0..fastrand::u8(..16) {
                tokio::task::yield_now().await;
            }
        }
    });
    timeout(10 * SOON, tasks.join_all()).await.expect("everybody stops");
}

async fn never_stale<S: Store, G>(fixture: Fixture<S, G>) {
    let (row, stop, replicas): (Arc<Row>, _, _) =
        (Arc::default(), CancellationToken::new(), [fixture.share()]);
    let enough = || async { row.hits.load(SeqCst) > 2000 && row.changes.load(SeqCst) > 500 };
    tokio::join!(contend(&row, &replicas, &stop), async {
        eventually(SOON, enough).await;
        stop.cancel();
    });
    assert_eq!(row.failures.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_stale_read_on_the_memory_store() {
    never_stale(fixture::memory().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_stale_read_through_grpc() {
    never_stale(fixture::grpc_memory().await).await;
}

#[cfg(feature = "real-backends")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_stale_read_on_redis() {
    never_stale(fixture::redis().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_stampede_through_grpc_one_caller_loads() {
    let fixture = fixture::grpc_memory().await;
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let mut client = fixture.client();
        calls.spawn(async move {
            let request = GetRequest { key: "chat:hot".to_owned() };
            client.get(request).await.unwrap().into_inner().result.unwrap()
        });
    }
    let answers = calls.join_all().await;
    let loads = answers.iter().filter(|answer| matches!(answer, get_response::Result::Miss(_))).count();
    let waits = answers.iter().filter(|answer| matches!(answer, get_response::Result::Wait(_))).count();
    assert_eq!((loads, waits), (1, 199));

    let stats = fixture.stats().await;
    let chat = stats.patterns.iter().find(|stats| stats.pattern == "chat").unwrap();
    assert_eq!((chat.hits, chat.misses, chat.waits), (0, 1, 199));
}
