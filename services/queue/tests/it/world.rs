//! A queue service in this process, with its surroundings.

use std::time::Duration;

use prost::Message;
use tempfile::TempDir;
use weft_mesh::{
    Channel, Peer,
    context::{self, Context},
    error::CallError,
};
use weft_proto::queue::v1::{
    GetJobRequest, IngestDocument, Job, JobState, PublishRequest, PublishResponse, ReplyToChat,
    WatchJobRequest, WatchJobResponse, queue_service_client::QueueServiceClient,
};
use weft_queue::{Queue, config::Config};
use weft_runtime::{Listeners, Running};
use weft_testkit::eventually;

use crate::fake::Surroundings;

/// How long anything may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What the service under test keeps jobs in, and what carries its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// SQLite, which does both.
    Embedded,
    /// PostgreSQL and RabbitMQ.
    #[cfg(feature = "real-backends")]
    Servers,
}

impl Backend {
    /// As statistics call them: of jobs, of the broker.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Backend::Embedded => ("sqlite", "embedded"),
            #[cfg(feature = "real-backends")]
            Backend::Servers => ("postgres", "rabbitmq"),
        }
    }

    /// A database and a virtual host of the test's own, on servers that all tests share.
    async fn prepare(self, config: &mut Config) {
        match self {
            // None is named, so they are a file in the data directory.
            Backend::Embedded => config.jobs.url = String::new().into(),
            #[cfg(feature = "real-backends")]
            Backend::Servers => {
                let (postgres, rabbitmq) =
                    tokio::join!(weft_testkit::Postgres::shared(), weft_testkit::RabbitMq::shared());
                let (database, vhost) = tokio::join!(postgres.unwrap().database(), rabbitmq.unwrap().vhost());
                config.jobs.url = database.unwrap().into();
                config.broker.amqp_url = vhost.unwrap().into();
            }
        }
    }
}

/// Runs each function as a test on every backend.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name($crate::world::Backend::Embedded)).await;
            })*
        }

        #[cfg(feature = "real-backends")]
        mod servers {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name($crate::world::Backend::Servers)).await;
            })*
        }
    };
}
pub(crate) use on_every_backend;

/// A service and what it calls.
pub(crate) struct World {
    pub(crate) surroundings: Surroundings,
    pub(crate) config: Config,
    pub(crate) running: Option<Running>,
    pub(crate) client: QueueServiceClient<Channel>,
    _folder: TempDir,
}

impl World {
    /// As it comes.
    pub(crate) async fn start(backend: Backend) -> World {
        World::with(backend, |_| {}).await
    }

    /// With a changed configuration.
    pub(crate) async fn with(backend: Backend, change: impl FnOnce(&mut Config)) -> World {
        let surroundings = Surroundings::start().await;
        let folder = tempfile::tempdir().unwrap();
        let mut config = quick_config();
        config.data_dir = folder.path().join("queue");
        config.database = Peer::at([surroundings.address.to_string()]);
        config.assets = Peer::at([surroundings.address.to_string()]);
        backend.prepare(&mut config).await;
        change(&mut config);
        let running = start(&config).await;
        let client = QueueServiceClient::new(Channel::direct(running.address));
        World { surroundings, config, running: Some(running), client, _folder: folder }
    }

    /// Stops the service, and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let running = start(&self.config).await;
        self.client = QueueServiceClient::new(Channel::direct(running.address));
        self.running = Some(running);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    pub(crate) async fn publish(&self, request: PublishRequest) -> Result<PublishResponse, CallError> {
        self.client.clone().publish(request).await.map(tonic::Response::into_inner).map_err(CallError::from)
    }

    pub(crate) async fn job(&self, id: &str) -> Job {
        let request = GetJobRequest { id: id.to_owned() };
        self.client.clone().get_job(request).await.unwrap().into_inner().job.unwrap()
    }

    /// Waits until a job is in a state.
    pub(crate) async fn reaches(&self, id: &str, state: JobState) -> Job {
        eventually(SOON, || async { self.job(id).await.state() == state }).await;
        self.job(id).await
    }

    /// All events of a job until it ends, reconnecting as clients do.
    pub(crate) async fn watch(&self, id: &str) -> Vec<WatchJobResponse> {
        let mut events = Vec::new();
        let request = WatchJobRequest { id: id.to_owned(), after_sequence: 0 };
        let mut stream = self.client.clone().watch_job(request).await.unwrap().into_inner();
        while let Some(event) = tokio::time::timeout(SOON, stream.message()).await.expect("an event").unwrap()
        {
            events.push(event);
        }
        events
    }
}

/// Retries at once, looks often.
pub(crate) fn quick_config() -> Config {
    let mut config = Config { address: "127.0.0.1:0".into(), ..Config::default() };
    config.admin.address = "127.0.0.1:0".into();
    config.broker.poll_interval = Duration::from_millis(20);
    config.retry.base = Duration::from_millis(5);
    config.retry.cap = Duration::from_millis(20);
    config.extractor.command =
        vec![env!("CARGO_BIN_EXE_weft-queue").into(), "extract".into(), "--test-hooks".into()];
    config
}

pub(crate) async fn start(config: &Config) -> Running {
    let listeners = Listeners::bind(config).await.unwrap();
    let running = weft_runtime::start::<Queue>(config.clone(), listeners).await.unwrap();
    running.wait_ready().await;
    running
}

pub(crate) fn ingest(document_id: &str, version: u64) -> PublishRequest {
    PublishRequest {
        queue: "document_queue".into(),
        r#type: "weft.queue.v1.IngestDocument".into(),
        payload: IngestDocument { document_id: document_id.into(), version }.encode_to_vec().into(),
        ..PublishRequest::default()
    }
}

pub(crate) fn reply(chat_id: &str, message_id: &str) -> PublishRequest {
    PublishRequest {
        queue: "chat_queue".into(),
        r#type: "weft.queue.v1.ReplyToChat".into(),
        payload: ReplyToChat { chat_id: chat_id.into(), message_id: message_id.into() }
            .encode_to_vec()
            .into(),
        ..PublishRequest::default()
    }
}

/// Runs as another user.
pub(crate) async fn acting_for<F: Future>(user: &str, future: F) -> F::Output {
    context::scope(Context::acting_for(user), future).await
}
