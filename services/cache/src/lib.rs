//! The cache service: entities under typed keys, with leases that refuse late fills and declared invalidation groups.
//!
//! Role: it stands between the services and their databases. [`key`] says what a key is, [`group`] which keys go
//! together, [`ttl`] how long values live, [`entries`] what happens when the store is away; [`store`] keeps the entries,
//! in this process or in Redis.
//!
//! Non-goals: it loads nothing by itself, knows nothing of what values mean, and is no place for data that has no
//! other home.
//!
//! Invariants: a value that was loaded before an invalidation is never stored after it; one caller at a time loads a
//! missing key; no value outlives its time to live; memory is bounded.
//!
//! Failure modes: without its store, reads miss without a lease, writes and invalidations fail with `UNAVAILABLE` and
//! are repeated by their callers; the service is then not ready, keeps serving, and reconnects by itself.

#![forbid(unsafe_code)]

pub mod config;
pub mod entries;
pub mod error;
pub mod group;
pub mod key;
pub mod metrics;
mod rpc;
pub mod store;
pub mod ttl;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use weft_proto::cache::v1::cache_service_server::CacheServiceServer;
use weft_runtime::{Assembly, Scope};

pub use config::Config;
use entries::Entries;
use rpc::{Limits, Rpc};
use store::{MemoryStore, RedisStore, Store};

/// How often expired entries are freed and what is held is exported.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The service, for the runtime.
pub struct Cache;

impl weft_runtime::Service for Cache {
    const NAME: &'static str = "cache";
    type Config = Config;

    async fn assemble(config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        let Some(settings) = config.redis_settings() else {
            let entries =
                Arc::new(Entries::new(MemoryStore::new(config.memory_limits()), config.retry_after));
            scope.tasks.spawn(sweep(Arc::clone(&entries), scope.draining.clone()));
            scope.ready.set(Ok(()));
            return Ok(serve(&config, entries));
        };
        let (store, keeper) = RedisStore::open(settings)?;
        let ready = scope.ready.clone();
        scope.tasks.spawn(keeper.run(scope.draining.clone(), move |health| ready.set(health)));
        Ok(serve(&config, Arc::new(Entries::new(store, config.retry_after))))
    }
}

fn serve(config: &Config, entries: Arc<Entries<impl Store>>) -> Assembly {
    let limits = Limits { max_value_bytes: config.max_value_bytes, default_ttl: config.default_ttl };
    let server = CacheServiceServer::new(Rpc::new(entries, limits));
    Assembly::grpc(server.max_decoding_message_size(config.max_request_bytes))
}

/// Frees expired entries, and exports what is held, until the service drains.
async fn sweep(entries: Arc<Entries<MemoryStore>>, draining: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    while draining.run_until_cancelled(ticks.tick()).await.is_some() {
        entries.store().sweep(Instant::now());
        entries.counters().observe(entries.store().usage());
    }
}
