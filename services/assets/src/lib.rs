//! The assets service: bytes under the hash of their content, private or public, optimized and compressed.
//!
//! An asset never changes, and what is served of it is made when it is uploaded. Files of other servers are kept beside
//! them, as a shared cache keeps them, and none is the only copy of anything. It is not a file system, and not for
//! documents' text either, which the queue extracts.
//!
//! Invariants: an acknowledged asset survives the death of any process; private bytes are never to be had by URL; an
//! immutable URL never changes its bytes; no optimizer's result is served that did not pass its check or is larger;
//! nothing of an origin is given to one client that was meant for another.
//!
//! When the store is away, calls fail with UNAVAILABLE and HTTP with 503 within the store's time limit, and work again
//! after its return.

#![forbid(unsafe_code)]

use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use weft_proto::assets::v1::asset_service_server::AssetServiceServer;
use weft_runtime::{Assembly, Scope, Service};

pub mod catalog;
pub mod compress;
pub mod config;
pub mod content;
pub mod error;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod optimize;
pub mod origin;
pub mod rpc;
pub mod spool;
pub mod storage;
pub mod upload;

pub use config::Config;

use crate::{
    catalog::Catalog,
    metrics::Metrics,
    origin::Origins,
    spool::Spool,
    storage::{Filesystem, S3, Storage, StorageError},
};

/// Largest message of an upload: a chunk of 1 MiB and its frame.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024 + 64 * 1024;

/// The service.
#[derive(Debug, Clone, Copy)]
pub struct Assets;

impl Service for Assets {
    const NAME: &'static str = "assets";
    type Config = Config;

    async fn assemble(config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        let spool = Spool::open(&config.data_dir)
            .with_context(|| format!("data directory {} cannot be used", config.data_dir.display()))?;
        let storage = open_storage(&config)?;
        let metrics = Metrics::new();
        let catalog = Catalog::new(&config, storage.clone(), spool, metrics.clone(), &scope);
        metrics.watch(catalog.pool());
        let origins = Origins::new(&config, &catalog, storage.clone(), &scope)?;
        scope.tasks.spawn(watch_store(storage, config.storage.probe_interval, scope.clone()));
        scope.tasks.spawn(sweep(catalog.clone(), config.storage.orphan_age, scope.stopping.clone()));
        let rpc = rpc::AssetsRpc::new(catalog.clone(), &config, scope.stopping.clone());
        let server = AssetServiceServer::new(rpc).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Assembly::grpc(server).with_http(http::router(catalog, origins)))
    }
}

fn open_storage(config: &Config) -> anyhow::Result<Arc<dyn Storage>> {
    Ok(match config.storage.s3_settings() {
        Some(settings) => Arc::new(S3::open(&settings).context("storage.s3")?),
        None => Arc::new(Filesystem::open(&config.data_dir)?),
    })
}

/// Keeps readiness true to what the store says.
async fn watch_store(storage: Arc<dyn Storage>, every: std::time::Duration, scope: Scope) {
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = scope.stopping.cancelled() => return,
        }
        let state = storage.probe().await.map_err(|e| {
            let (StorageError::Unavailable { source, .. } | StorageError::Failed { source, .. }) = &e;
            format!("{}: {source}", storage.backend().as_str())
        });
        scope.ready.set(state);
    }
}

/// Removes leftovers now and then.
async fn sweep(catalog: Catalog, age: std::time::Duration, stopping: CancellationToken) {
    let mut beat = tokio::time::interval(age);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = stopping.cancelled() => return,
        }
        let swept = tokio::select! {
            swept = catalog.sweep(age) => swept,
            () = stopping.cancelled() => return,
        };
        match swept {
            Ok(0) => {}
            Ok(objects) => {
                catalog.metrics().swept(objects);
                tracing::info!(objects, "removed leftovers of uploads and deletions cut short");
            }
            Err(error) => tracing::debug!(%error, "sweep put off"),
        }
    }
}
