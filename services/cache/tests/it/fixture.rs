//! Stores and services to test, each with what keeps it running.

use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use weft_cache::{
    Cache, Config,
    key::Key,
    store::{Item, MemoryStore},
};
use weft_runtime::{Listeners, Running};

use crate::remote::RemoteStore;

/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The lease time of every store here: long for a test's next line, short for a test that waits it out.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// A store, and what must live as long.
pub(crate) struct Fixture<S, G> {
    store: Arc<S>,
    #[cfg_attr(not(feature = "real-backends"), allow(dead_code, reason = "only outages look into it"))]
    pub(crate) guard: G,
}

impl<S, G> Fixture<S, G> {
    pub(crate) fn new(store: S, guard: G) -> Self {
        Self { store: Arc::new(store), guard }
    }

    pub(crate) fn share(&self) -> Arc<S> {
        Arc::clone(&self.store)
    }
}

impl<S, G> Deref for Fixture<S, G> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.store
    }
}

pub(crate) fn config() -> Config {
    let mut config = Config { address: "127.0.0.1:0".to_owned(), lease: LEASE, ..Config::default() };
    config.admin.address = "127.0.0.1:0".to_owned();
    config
}

pub(crate) async fn start(config: Config) -> Running {
    let listeners = Listeners::bind(&config).await.unwrap();
    weft_runtime::start::<Cache>(config, listeners).await.unwrap()
}

pub(crate) async fn memory() -> Fixture<MemoryStore, ()> {
    Fixture::new(MemoryStore::new(config().memory_limits()), ())
}

pub(crate) async fn grpc_memory() -> Fixture<RemoteStore, Running> {
    let running = start(config()).await;
    Fixture::new(RemoteStore::connect(running.address), running)
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) fn item(key_text: &str, value: impl Into<Bytes>) -> Item {
    Item { key: key(key_text), value: value.into(), ttl: Duration::from_secs(3600) }
}

#[cfg(feature = "real-backends")]
pub(crate) use real::*;

#[cfg(feature = "real-backends")]
mod real {
    use tokio_util::{
        sync::{CancellationToken, DropGuard},
        task::TaskTracker,
    };
    use weft_cache::store::{RedisStore, Store as _, redis::RedisSettings};
    use weft_testkit::{Redis, eventually};

    use super::*;

    /// A Redis of the test's own, and the task that keeps the store connected to it.
    pub(crate) struct RedisGuard {
        pub(crate) server: Arc<Redis>,
        _keeper: DropGuard,
    }

    pub(crate) fn settings(url: &str) -> RedisSettings {
        RedisSettings {
            url: url.to_owned(),
            probe_interval: Duration::from_millis(200),
            ..redis_config(url).redis_settings().unwrap()
        }
    }

    pub(crate) fn redis_config(url: &str) -> Config {
        let mut config = config();
        config.redis.url = Some(url.to_owned().into());
        config.redis.probe_interval = Duration::from_millis(200);
        config
    }

    /// One replica's store on a server that may not even be there yet.
    pub(crate) fn replica(server: &Arc<Redis>, settings: RedisSettings) -> Fixture<RedisStore, RedisGuard> {
        let (store, keeper) = RedisStore::open(settings).unwrap();
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(keeper.run(stop.clone(), |_| {}));
        Fixture::new(store, RedisGuard { server: Arc::clone(server), _keeper: stop.drop_guard() })
    }

    pub(crate) async fn connected(
        fixture: Fixture<RedisStore, RedisGuard>,
    ) -> Fixture<RedisStore, RedisGuard> {
        let store = fixture.share();
        eventually(SOON, || async { store.reachable() }).await;
        fixture
    }

    pub(crate) async fn redis() -> Fixture<RedisStore, RedisGuard> {
        let server = Arc::new(Redis::start().await.unwrap());
        let settings = settings(server.url());
        connected(replica(&server, settings)).await
    }

    pub(crate) async fn grpc_redis() -> Fixture<RemoteStore, (Running, Redis)> {
        let server = Redis::start().await.unwrap();
        let running = start(redis_config(server.url())).await;
        let store = RemoteStore::connect(running.address);
        eventually(SOON, || async { store.stats().await.store_reachable }).await;
        Fixture::new(store, (running, server))
    }
}
