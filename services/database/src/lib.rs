//! The database service: users, chats, messages, models, documents with their chunks, and notifications.
//!
//! Role: the one owner of rows. [`repository`] is the seam to SQLite and PostgreSQL; [`read_through`] puts the cache
//! service in front of entities and first pages; [`outbox`] does what a write owes to the cache and the queue; [`search`]
//! finds passages; [`insight`] watches every query.
//!
//! Non-goals: it holds no bytes of documents (assets does), makes no embeddings and runs no jobs (queue does).
//!
//! Invariants: every statement is a registered query; a write and what it owes are one transaction; the owner of a row
//! is the caller, never a field of a request; a connection is held while a query runs, never across a stream.
//!
//! Failure modes: without PostgreSQL every call fails at once as unavailable and works again by itself; without the
//! cache reads cost more; without the queue jobs wait in the outbox.

#![forbid(unsafe_code)]

mod breaker;
pub mod config;
pub mod entities;
pub mod error;
pub mod failpoint;
pub mod insight;
pub mod metrics;
pub mod outbox;
pub mod page;
pub mod read_through;
pub mod repository;
mod rpc;
pub mod search;
pub mod validate;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{Semaphore, watch};
use weft_mesh::{Channel, Peer};
use weft_proto::{
    cache::v1::cache_service_client::CacheServiceClient,
    database::v1::{
        chat_service_server::ChatServiceServer, document_service_server::DocumentServiceServer,
        insight_service_server::InsightServiceServer, message_service_server::MessageServiceServer,
        model_service_server::ModelServiceServer, notification_service_server::NotificationServiceServer,
        search_service_server::SearchServiceServer, user_service_server::UserServiceServer,
    },
    queue::v1::queue_service_client::QueueServiceClient,
};
use weft_runtime::{Assembly, Scope};

use config::Backend;
pub use config::Config;
use failpoint::Failpoint;
use insight::Observer;
use metrics::Metrics;
use outbox::{Outbox, Parts};
use read_through::ReadThrough;
use repository::{Dialect, Engine, Repository, postgres::Postgres, sqlite::Sqlite};
use rpc::{Chats, Core, Documents, Insight, Messages, Models, Notifications, Search, Users};

/// Memory that uploads in progress may use, all together.
const UPLOAD_BYTES: usize = 64 * 1024 * 1024;

/// The service, for the runtime.
pub struct Database;

impl weft_runtime::Service for Database {
    const NAME: &'static str = "database";
    type Config = Config;

    async fn assemble(config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        let metrics = Metrics::new();
        let backend = config.backend().context("database.url names no database")?;
        let (engine, observer) = open(backend, &config, metrics.clone(), &scope).await?;
        Metrics::watch_pool(&Arc::downgrade(&engine));
        scope.tasks.spawn(report(engine.health(), scope.clone()));
        let repository = Repository::new(engine, config.cache.is_configured());
        let cache = channel("cache", &config.cache, &scope).map(CacheServiceClient::new);
        let queue = channel("queue", &config.queue, &scope).map(QueueServiceClient::new);
        let cache = Arc::new(ReadThrough::new(cache, config.cache.timeout, metrics.clone()));
        let outbox = Arc::new(Outbox::new(Parts {
            repository: repository.clone(),
            cache: Arc::clone(&cache),
            queue,
            patience: config.outbox.patience,
            failpoint: Failpoint::armed(config.failpoint),
            metrics,
        }));
        let relay = Arc::clone(&outbox);
        let (poll, draining) = (config.outbox.poll, scope.draining.clone());
        scope.tasks.spawn(async move { relay.relay(poll, draining).await });
        let upload_bytes = Arc::new(Semaphore::new(UPLOAD_BYTES));
        Ok(serve(&Arc::new(Core { repository, cache, outbox, observer, upload_bytes, tasks: scope.tasks })))
    }
}

async fn open(
    backend: Backend,
    config: &Config,
    metrics: Metrics,
    scope: &Scope,
) -> anyhow::Result<(Arc<dyn Engine>, Arc<Observer>)> {
    let failpoint = Failpoint::armed(config.failpoint);
    let observer = |dialect| Arc::new(Observer::new(dialect, config.insight.slow_query, metrics));
    Ok(match backend {
        Backend::Sqlite(options) => {
            let folder = options.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder {
                let created = tokio::fs::create_dir_all(folder).await;
                created.with_context(|| format!("data_dir: cannot create {}", folder.display()))?;
            }
            let observer = observer(Dialect::Sqlite);
            let stopping = scope.stopping.clone();
            let engine =
                Sqlite::open(options, Arc::clone(&observer), failpoint, &scope.tasks, stopping).await?;
            (Arc::new(engine), observer)
        }
        Backend::Postgres(options) => {
            let observer = observer(Dialect::Postgres);
            let draining = scope.draining.clone();
            let engine = Postgres::open(&options, Arc::clone(&observer), failpoint, &scope.tasks, draining)?;
            (Arc::new(engine), observer)
        }
    })
}

fn channel(name: &str, peer: &Peer, scope: &Scope) -> Option<Channel> {
    let channel = || Channel::new(name, peer, &scope.tasks, scope.draining.clone());
    peer.is_configured().then(|| channel().signed_by(scope.signer.clone(), name))
}

/// The service is as ready as its database, until it drains.
async fn report(mut health: watch::Receiver<Result<(), String>>, scope: Scope) {
    let reporting = async {
        loop {
            let state = health.borrow_and_update().clone();
            scope.ready.set(state);
            if health.changed().await.is_err() {
                break;
            }
        }
    };
    scope.draining.run_until_cancelled(reporting).await;
}

fn serve(core: &Arc<Core>) -> Assembly {
    Assembly::grpc(UserServiceServer::new(Users(Arc::clone(core))))
        .and_grpc(ChatServiceServer::new(Chats(Arc::clone(core))))
        .and_grpc(MessageServiceServer::new(Messages(Arc::clone(core))))
        .and_grpc(ModelServiceServer::new(Models(Arc::clone(core))))
        .and_grpc(DocumentServiceServer::new(Documents(Arc::clone(core))))
        .and_grpc(SearchServiceServer::new(Search(Arc::clone(core))))
        .and_grpc(NotificationServiceServer::new(Notifications(Arc::clone(core))))
        .and_grpc(InsightServiceServer::new(Insight(Arc::clone(core))))
}
