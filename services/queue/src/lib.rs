//! The queue service: durable jobs, published once, delivered at least once, with one effect.
//!
//! Role: [`jobs`] keeps the record of every job and decides who runs it; [`broker`] tells workers of due jobs;
//! [`worker`] runs them through a [`handler`]; [`watch`] and the log let anybody follow a job from any replica.
//!
//! Non-goals: it is no message bus, knows three queues and the handlers for them, and keeps no effect of a job itself:
//! replies, chunks and notifications are the database's.
//!
//! Invariants: a job acknowledged to its publisher is in the store; it is run only under a lease, and finished only by
//! the holder of the latest; attempts are counted by the store, never by the broker; a delivery is settled after the
//! outcome is stored; a job ends succeeded, cancelled, or as a dead letter with its errors.
//!
//! Failure modes: without the job store every call answers UNAVAILABLE and workers wait; without RabbitMQ jobs are still
//! taken and kept, and delivered when it is back; without the database or assets service attempts fail and are repeated.

#![forbid(unsafe_code)]

pub mod broker;
pub mod clock;
pub mod config;
pub mod embedder;
pub mod error;
pub mod extractor;
pub mod handler;
pub mod job;
pub mod jobs;
pub mod ledger;
pub mod metrics;
pub mod provider;
pub mod relay;
pub mod responder;
mod rpc;
pub mod sweep;
pub mod watch;
pub mod words;
pub mod worker;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_mesh::Channel;
use weft_proto::{
    assets::v1::asset_service_client::AssetServiceClient,
    database::v1::document_service_client::DocumentServiceClient,
    queue::v1::queue_service_server::QueueServiceServer,
};
use weft_runtime::{Assembly, Scope};

use crate::{
    broker::{Broker, embedded::EmbeddedBroker, rabbitmq::RabbitMqBroker},
    clock::Clock,
    config::{Config, Role},
    embedder::{Embedder, openai::OpenAiEmbedder},
    extractor::Extractor,
    handler::{Handlers, chat::ChatHandler, document::DocumentHandler, notification::NotificationHandler},
    jobs::{
        Jobs,
        postgres::{PoolLimits, PostgresJobs},
        sqlite::SqliteJobs,
    },
    ledger::Ledger,
    metrics::Metrics,
    provider::Provider,
    worker::Worker,
};

/// How long workers may take to give their jobs back once the process has to stop.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long a start may wait for the store.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue service.
pub struct Queue;

impl weft_runtime::Service for Queue {
    const NAME: &'static str = "queue";
    type Config = Config;

    async fn assemble(config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        let loops = Loops::new(&scope);
        let clock = Clock::system();
        let metrics = Metrics::default();
        let jobs = open_jobs(&config).await?;
        first_probe(&clock, jobs.as_ref(), &scope).await;
        let broker = start_broker(&config, jobs.clone(), clock.clone(), &loops)?;
        let ledger = Ledger::start(jobs.clone(), broker.clone(), clock, &loops.tasks, &loops.closing);
        if broker.needs_publishing() {
            let (poll, timeout) = (config.broker.poll_interval, config.broker.timeout);
            loops.spawn(relay::run(ledger.clone(), metrics.clone(), poll, timeout));
        }
        loops.spawn(sweep::health(ledger.clone(), scope.ready.clone(), metrics.clone()));
        loops.spawn(sweep::retention(ledger.clone(), config.retention.clone()));
        if config.has(Role::Worker) {
            start_workers(&config, &ledger, &metrics, &scope, &loops);
        }
        if !config.has(Role::Api) {
            return Ok(Assembly::default());
        }
        loops.spawn(ledger.watchers().clone().poll(jobs));
        let service = rpc::QueueRpc::new(ledger, metrics, &config, scope.draining.clone());
        Ok(Assembly::grpc(QueueServiceServer::new(service)))
    }
}

/// What runs as long as the service does, and a little longer than its jobs, which need it to be given back.
struct Loops {
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Loops {
    fn new(scope: &Scope) -> Loops {
        let loops = Loops { tasks: scope.tasks.clone(), closing: CancellationToken::new() };
        let (scope, closing) = (scope.clone(), loops.closing.clone());
        loops.tasks.spawn(async move {
            scope.stopping.cancelled().await;
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, scope.work.wait()).await;
            closing.cancel();
        });
        loops
    }

    /// Runs a loop until the service closes.
    fn spawn(&self, endless: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = endless => {}
                () = closing.cancelled() => {}
            }
        });
    }
}

async fn open_jobs(config: &Config) -> anyhow::Result<Arc<dyn Jobs>> {
    let url = config.jobs.url.expose();
    if url.starts_with("postgres") {
        let limits =
            PoolLimits { max_connections: config.jobs.max_connections, timeout: config.jobs.timeout };
        return Ok(Arc::new(PostgresJobs::new(url, limits).context("jobs.url")?));
    }
    let (key, path) = match url.strip_prefix("sqlite:") {
        Some(path) => ("jobs.url", Path::new(path.trim_start_matches("//")).to_owned()),
        None => ("data_dir", config.data_dir.join("jobs.sqlite")),
    };
    if let Some(folder) = path.parent() {
        let created = tokio::fs::create_dir_all(folder).await;
        created.with_context(|| format!("{key}: cannot create {}", folder.display()))?;
    }
    let opened = SqliteJobs::open(&path).await;
    let jobs = opened.with_context(|| format!("{key}: cannot open {}", path.display()))?;
    Ok(Arc::new(jobs))
}

/// Asks the store for its time before the first job is timed, and whether it is there. One that is away is asked again
/// by the sweep.
async fn first_probe(clock: &Clock, jobs: &dyn Jobs, scope: &Scope) {
    if let Ok(Ok(now)) = tokio::time::timeout(PROBE_TIMEOUT, jobs.probe()).await {
        now.into_iter().for_each(|now| clock.follow(now));
        scope.ready.set(Ok(()));
    }
}

fn start_broker(
    config: &Config,
    jobs: Arc<dyn Jobs>,
    clock: Clock,
    loops: &Loops,
) -> anyhow::Result<Arc<dyn Broker>> {
    if config.broker.amqp_url.is_empty() {
        return Ok(Arc::new(EmbeddedBroker::new(jobs, clock, config.broker.poll_interval)));
    }
    let url = config.broker.amqp_url.expose();
    let broker = RabbitMqBroker::start(url, config.broker.timeout, &loops.tasks, &loops.closing);
    Ok(Arc::new(broker.context("broker.amqp_url")?))
}

fn start_workers(config: &Config, ledger: &Ledger, metrics: &Metrics, scope: &Scope, loops: &Loops) {
    let channel = |name, peer| {
        let channel = Channel::new(name, peer, &loops.tasks, loops.closing.clone());
        channel.signed_by(scope.signer.clone(), name)
    };
    let (database, assets) = (channel("database", &config.database), channel("assets", &config.assets));
    let extractor = Extractor::new(config.extractor.clone());
    let handlers = handlers(config, ledger, metrics, &extractor, &database, assets);
    let backoff = config.retry.backoff();
    let worker = Worker {
        ledger: ledger.clone(),
        handlers: handlers.clone(),
        name: format!("worker-{}", uuid::Uuid::new_v4().simple()).into(),
        config: config.workers.clone(),
        backoff,
        metrics: metrics.clone(),
        tasks: scope.work.clone(),
        draining: scope.draining.clone(),
        stopping: scope.stopping.clone(),
    };
    for queue in job::Queue::ALL {
        scope.work.spawn(worker.clone().run(queue));
    }
    loops.spawn(sweep::leases(ledger.clone(), handlers, backoff, metrics.clone()));
    loops.spawn(sweep::children(extractor));
}

fn handlers(
    config: &Config,
    ledger: &Ledger,
    metrics: &Metrics,
    extractor: &Extractor,
    database: &Channel,
    assets: Channel,
) -> Handlers {
    let embedder = OpenAiEmbedder::new(&config.embedding, &config.provider)
        .map_or(Embedder::Hashed, |endpoint| Embedder::OpenAi(Arc::new(endpoint)));
    let provider = Provider::new(&config.provider);
    let document = DocumentHandler {
        documents: DocumentServiceClient::new(database.clone()),
        assets: AssetServiceClient::new(assets),
        extractor: extractor.clone(),
        embedder: embedder.clone(),
        max_bytes: config.extractor.max_bytes,
        chunk_chars: config.extractor.chunk_chars,
        metrics: metrics.clone(),
    };
    Handlers {
        chat: Arc::new(ChatHandler::new(database, embedder, provider, config, ledger.clone())),
        document: Arc::new(document),
        notification: Arc::new(NotificationHandler::new(database.clone())),
    }
}
