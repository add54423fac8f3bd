//! Stand-ins for the services that workers call: as much of them as the handlers need, and they can be made to fail.

mod assets;
mod database;
pub(crate) mod provider;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Semaphore;
use tonic::{Code, Status};
use weft_proto::{
    assets::v1::asset_service_server::AssetServiceServer,
    database::v1::{
        Chunk, Document, DocumentState, Message, Notification, Role, SearchHit,
        chat_service_server::ChatServiceServer, document_service_server::DocumentServiceServer,
        message_service_server::MessageServiceServer, notification_service_server::NotificationServiceServer,
        search_service_server::SearchServiceServer,
    },
};
use weft_runtime::{Assembly, Listeners, Running, Scope};

/// The other methods of a service, which nobody here calls.
macro_rules! uncalled {
    ($($name:ident: $request:ty => $response:ty;)*) => {
        $(fn $name<'a, 'b>(
            &'a self,
            _request: tonic::Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<tonic::Response<$response>, tonic::Status>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(tonic::Status::unimplemented("a stand-in")) })
        })*
    };
}

use uncalled;

/// What the stand-ins hold, and how they are to fail.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) documents: BTreeMap<String, Document>,
    pub(crate) chunks: BTreeMap<String, Vec<Chunk>>,
    pub(crate) assets: BTreeMap<String, Vec<u8>>,
    pub(crate) messages: BTreeMap<String, Vec<Message>>,
    pub(crate) hits: Vec<SearchHit>,
    pub(crate) notifications: Vec<Notification>,
    /// Codes that the next calls answer, whatever they ask.
    pub(crate) failures: VecDeque<Code>,
    /// Calls so far, by name.
    pub(crate) calls: BTreeMap<&'static str, usize>,
    /// On whose behalf the calls were made.
    pub(crate) users: Vec<String>,
}

/// The stand-ins, serving.
pub(crate) struct Surroundings {
    pub(crate) address: SocketAddr,
    pub(crate) state: Shared,
    running: Option<Running>,
}

/// State and a gate: calls wait at it while it is closed.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    pub(crate) gate: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Counts a call, and fails it if that is due.
    async fn called(&self, name: &'static str) -> Result<(), Status> {
        let failure = {
            let mut state = self.lock();
            *state.calls.entry(name).or_default() += 1;
            state.users.push(weft_mesh::context::user());
            state.failures.pop_front()
        };
        let _pass = self.gate.acquire().await.unwrap();
        match failure {
            #[allow(clippy::disallowed_methods)] // a stand-in may say what it likes
            Some(code) => Err(Status::new(code, "told to fail")),
            None => Ok(()),
        }
    }

    pub(crate) fn calls(&self, name: &str) -> usize {
        self.lock().calls.get(name).copied().unwrap_or(0)
    }

    /// Lets calls wait until `open`.
    pub(crate) async fn close(&self) {
        self.gate.acquire_many(1000).await.unwrap().forget();
    }

    pub(crate) fn open(&self) {
        self.gate.add_permits(1000);
    }

    /// A document of a user's whose bytes are there.
    pub(crate) fn add_document(&self, id: &str, path: &str, content_type: &str, bytes: &[u8]) {
        let asset_id = blake3::hash(bytes).to_hex().to_string();
        let mut state = self.lock();
        state.assets.insert(asset_id.clone(), bytes.to_vec());
        let document = Document {
            id: id.into(),
            path: path.into(),
            owner: "local".into(),
            content_type: content_type.into(),
            size_bytes: bytes.len() as u64,
            asset_id,
            version: 1,
            state: DocumentState::Pending.into(),
            ..Document::default()
        };
        state.documents.insert(id.into(), document);
    }

    pub(crate) fn document(&self, id: &str) -> Document {
        self.lock().documents[id].clone()
    }

    /// A user's message in a chat.
    pub(crate) fn add_message(&self, chat: &str, id: &str, content: &str) {
        let message = Message {
            id: id.into(),
            chat_id: chat.into(),
            role: Role::User.into(),
            content: content.into(),
            ..Message::default()
        };
        self.lock().messages.entry(chat.into()).or_default().push(message);
    }

    pub(crate) fn add_hit(&self, document: &str, path: &str, text: &str) {
        let chunk = Some(Chunk { text: text.into(), ..Chunk::default() });
        let hit = SearchHit { document_id: document.into(), path: path.into(), chunk, score: 1.0 };
        self.lock().hits.push(hit);
    }
}

impl Surroundings {
    pub(crate) async fn start() -> Surroundings {
        let shared = Shared { state: Arc::default(), gate: Arc::new(Semaphore::new(1000)) };
        let mut surroundings =
            Surroundings { address: ([127, 0, 0, 1], 0).into(), state: shared, running: None };
        surroundings.restart().await;
        surroundings
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Serves, on the address it had before.
    pub(crate) async fn restart(&mut self) {
        STATE
            .scope(self.state.clone(), async {
                let config = Config { address: self.address.to_string() };
                let listeners = Listeners::bind(&config).await.unwrap();
                let running = weft_runtime::start::<Fake>(config, listeners).await.unwrap();
                self.address = running.address;
                self.running = Some(running);
            })
            .await;
    }
}

tokio::task_local! {
    /// What the service being started serves: the runtime assembles it from its configuration alone.
    static STATE: Shared;
}

struct Fake;

impl weft_runtime::Service for Fake {
    const NAME: &'static str = "fake";
    type Config = Config;

    async fn assemble(_config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        let shared = STATE.get();
        scope.ready.set(Ok(()));
        Ok(Assembly::grpc(DocumentServiceServer::new(shared.clone()))
            .and_grpc(ChatServiceServer::new(shared.clone()))
            .and_grpc(MessageServiceServer::new(shared.clone()))
            .and_grpc(SearchServiceServer::new(shared.clone()))
            .and_grpc(NotificationServiceServer::new(shared.clone()))
            .and_grpc(AssetServiceServer::new(shared)))
    }
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Config {
    address: String,
}

static ADMIN: std::sync::LazyLock<weft_runtime::config::Admin> =
    std::sync::LazyLock::new(|| weft_runtime::config::Admin::at("127.0.0.1:0"));
static LIFECYCLE: std::sync::LazyLock<weft_runtime::config::Lifecycle> =
    std::sync::LazyLock::new(weft_runtime::config::Lifecycle::default);
static TELEMETRY: std::sync::LazyLock<weft_runtime::config::Telemetry> =
    std::sync::LazyLock::new(weft_runtime::config::Telemetry::default);

impl weft_runtime::Config for Config {
    fn address(&self) -> Option<&str> {
        Some(&self.address)
    }

    fn admin(&self) -> &weft_runtime::config::Admin {
        &ADMIN
    }

    fn lifecycle(&self) -> &weft_runtime::config::Lifecycle {
        &LIFECYCLE
    }

    fn telemetry(&self) -> &weft_runtime::config::Telemetry {
        &TELEMETRY
    }

    fn validate(&self, _problems: &mut weft_runtime::config::Problems) {}
}
