//! The service in this process, its peers beside it, and typed clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tempfile::TempDir;
use tonic::{Response, Status};
use weft_database::{Config, Database};
use weft_mesh::{
    Channel, Peer,
    context::{self, Context},
    error::{CallError, ErrorKind},
};
use weft_proto::database::v1::{
    self as pb, chat_service_client::ChatServiceClient, document_service_client::DocumentServiceClient,
    insight_service_client::InsightServiceClient, message_service_client::MessageServiceClient,
    model_service_client::ModelServiceClient, notification_service_client::NotificationServiceClient,
    search_service_client::SearchServiceClient, user_service_client::UserServiceClient,
};
use weft_runtime::{Listeners, Running, config::Admin};

use crate::{
    fixture::SLOW,
    peers::{self, Memory, Which},
};

/// What the service under test keeps its data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    #[cfg(feature = "real-backends")]
    Postgres,
}

impl Backend {
    /// As statistics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            #[cfg(feature = "real-backends")]
            Self::Postgres => "postgres",
        }
    }

    /// Makes an empty database of its own, if the service does not do so itself.
    async fn prepare(self, config: &mut Config) {
        match self {
            // None is named, so it is a file in the data directory.
            Self::Sqlite => config.database.url = None,
            #[cfg(feature = "real-backends")]
            Self::Postgres => {
                let server = weft_testkit::Postgres::shared().await.unwrap();
                let url = server.database().await.unwrap();
                config.database.url = Some(weft_runtime::config::Secret::new(url));
                // All tests share one server, and few of them need a second connection.
                config.database.pool_min = 1;
            }
        }
    }
}

/// Runs each function as a test on every backend.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(super::$name($crate::mesh::Backend::Sqlite)).await;
            })*
        }

        #[cfg(feature = "real-backends")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(super::$name($crate::mesh::Backend::Postgres)).await;
            })*
        }
    };
}
pub(crate) use on_every_backend;

/// The service with a cache and a queue.
pub(crate) struct Mesh {
    pub(crate) clients: Clients,
    pub(crate) memory: Arc<Memory>,
    _running: Running,
    pub(crate) cache: Option<Running>,
    pub(crate) queue: Option<Running>,
    pub(crate) cache_address: SocketAddr,
    pub(crate) queue_address: SocketAddr,
    _folder: TempDir,
}

impl Mesh {
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::configured(backend, |_| ()).await
    }

    pub(crate) async fn configured(backend: Backend, change: impl FnOnce(&mut Config)) -> Self {
        let (folder, memory) = (TempDir::new().unwrap(), Arc::new(Memory::default()));
        let cache = peers::serve(Which::Cache, "127.0.0.1:0", &memory).await;
        let queue = peers::serve(Which::Queue, "127.0.0.1:0", &memory).await;
        let mut config = config(&folder, cache.address, queue.address);
        backend.prepare(&mut config).await;
        change(&mut config);
        let running = start(config).await;
        running.wait_ready().await;
        Self {
            clients: Clients::at(running.address),
            memory,
            _running: running,
            cache_address: cache.address,
            queue_address: queue.address,
            cache: Some(cache),
            queue: Some(queue),
            _folder: folder,
        }
    }

    pub(crate) async fn settled(&self) {
        self.clients.settled().await;
    }
}

pub(crate) fn config(folder: &TempDir, cache: SocketAddr, queue: SocketAddr) -> Config {
    let mut config = Config {
        address: "127.0.0.1:0".to_owned(),
        admin: Admin::at("127.0.0.1:0"),
        data_dir: folder.path().to_owned(),
        cache: Peer { timeout: SLOW, ..Peer::at([cache.to_string()]) },
        queue: Peer::at([queue.to_string()]),
        ..Config::default()
    };
    config.outbox.poll = Duration::from_millis(50);
    config.lifecycle.drain_timeout = Duration::from_secs(2);
    for peer in [&mut config.cache, &mut config.queue] {
        peer.health_interval = Duration::from_millis(100);
    }
    config
}

pub(crate) async fn start(config: Config) -> Running {
    let listeners = Listeners::bind(&config).await.unwrap();
    weft_runtime::start::<Database>(config, listeners).await.unwrap()
}

#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) users: UserServiceClient<Channel>,
    pub(crate) chats: ChatServiceClient<Channel>,
    pub(crate) messages: MessageServiceClient<Channel>,
    pub(crate) models: ModelServiceClient<Channel>,
    pub(crate) documents: DocumentServiceClient<Channel>,
    pub(crate) search: SearchServiceClient<Channel>,
    pub(crate) notifications: NotificationServiceClient<Channel>,
    pub(crate) insight: InsightServiceClient<Channel>,
}

impl Clients {
    pub(crate) fn at(address: SocketAddr) -> Self {
        let channel = Channel::direct(address);
        Self {
            users: UserServiceClient::new(channel.clone()),
            chats: ChatServiceClient::new(channel.clone()),
            messages: MessageServiceClient::new(channel.clone()),
            models: ModelServiceClient::new(channel.clone()),
            documents: DocumentServiceClient::new(channel.clone()),
            search: SearchServiceClient::new(channel.clone()),
            notifications: NotificationServiceClient::new(channel.clone()),
            insight: InsightServiceClient::new(channel),
        }
    }

    pub(crate) async fn chat(&self, owner: &str, title: &str) -> pb::Chat {
        let request = pb::CreateChatRequest { title: title.to_owned(), ..Default::default() };
        let mut chats = self.chats.clone();
        ok(acting(owner, chats.create_chat(request)).await).chat.unwrap()
    }

    pub(crate) async fn get_chat(&self, owner: &str, id: &str) -> Result<pb::Chat, CallError> {
        let mut chats = self.chats.clone();
        let call = acting(owner, chats.get_chat(pb::GetChatRequest { id: id.to_owned() })).await;
        call.map(|response| response.into_inner().chat.unwrap()).map_err(CallError::from)
    }

    pub(crate) async fn list_chats(&self, owner: &str, size: i32) -> pb::ListChatsResponse {
        let mut chats = self.chats.clone();
        let request = pb::ListChatsRequest { page_size: size, ..Default::default() };
        ok(acting(owner, chats.list_chats(request)).await)
    }

    pub(crate) async fn rename(&self, owner: &str, id: &str, title: &str) -> Result<pb::Chat, CallError> {
        let mut chats = self.chats.clone();
        let request = pb::UpdateChatRequest { id: id.to_owned(), title: title.to_owned() };
        let call = acting(owner, chats.update_chat(request)).await;
        call.map(|response| response.into_inner().chat.unwrap()).map_err(CallError::from)
    }

    pub(crate) async fn post(
        &self,
        owner: &str,
        chat_id: &str,
        content: &str,
        key: &str,
    ) -> Result<pb::PostMessageResponse, CallError> {
        let mut messages = self.messages.clone();
        let request = pb::PostMessageRequest {
            chat_id: chat_id.to_owned(),
            content: content.to_owned(),
            idempotency_key: key.to_owned(),
        };
        let call = acting(owner, messages.post_message(request)).await;
        call.map(Response::into_inner).map_err(CallError::from)
    }

    pub(crate) async fn messages(&self, owner: &str, chat_id: &str) -> Vec<pb::Message> {
        let mut messages = self.messages.clone();
        let request = pb::ListMessagesRequest { chat_id: chat_id.to_owned(), ..Default::default() };
        ok(acting(owner, messages.list_messages(request)).await).messages
    }

    pub(crate) async fn put(
        &self,
        owner: &str,
        path: &str,
        hash: char,
    ) -> Result<pb::PutDocumentResponse, CallError> {
        let mut documents = self.documents.clone();
        let request = pb::PutDocumentRequest {
            path: path.to_owned(),
            asset_id: hash.to_string().repeat(64),
            content_type: "text/markdown".to_owned(),
            size_bytes: 3,
        };
        let call = acting(owner, documents.put_document(request)).await;
        call.map(Response::into_inner).map_err(CallError::from)
    }

    pub(crate) async fn documents(&self, owner: &str) -> Vec<pb::Document> {
        let mut documents = self.documents.clone();
        ok(acting(owner, documents.list_documents(pb::ListDocumentsRequest::default())).await).documents
    }

    pub(crate) async fn complete(
        &self,
        owner: &str,
        parts: Vec<pb::CompleteDocumentRequest>,
    ) -> Result<pb::Document, CallError> {
        let mut documents = self.documents.clone();
        let call = acting(owner, documents.complete_document(futures::stream::iter(parts))).await;
        call.map(|response| response.into_inner().document.unwrap()).map_err(CallError::from)
    }

    pub(crate) async fn stats(&self) -> pb::GetStatsResponse {
        let mut insight = self.insight.clone();
        ok(insight.get_stats(pb::GetStatsRequest {}).await)
    }

    /// Returns when nothing is owed any more.
    pub(crate) async fn settled(&self) {
        weft_testkit::eventually(SLOW, || async { self.stats().await.outbox_depth == 0 }).await;
    }
}

/// Makes a call as some user, who waits for a while.
pub(crate) async fn acting<T>(owner: &str, call: impl Future<Output = T>) -> T {
    context::scope(Context::acting_for(owner).until(std::time::Instant::now() + SLOW), call).await
}

pub(crate) fn ok<T>(result: Result<Response<T>, Status>) -> T {
    result.unwrap().into_inner()
}

/// The fields a call was refused for.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>) -> Vec<String> {
    let error = CallError::from(result.unwrap_err());
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error:?}");
    error.fields.into_iter().map(|violation| violation.field).collect()
}

/// The messages of an upload.
pub(crate) fn parts(
    document_id: &str,
    version: u64,
    chunk_count: u32,
    chunks: Vec<pb::Chunk>,
) -> Vec<pb::CompleteDocumentRequest> {
    use pb::complete_document_request::Part;
    let header = pb::CompleteDocumentHeader { document_id: document_id.to_owned(), version, chunk_count };
    let part = |part| pb::CompleteDocumentRequest { part: Some(part) };
    vec![part(Part::Header(header)), part(Part::Chunks(pb::ChunkBatch { chunks }))]
}

pub(crate) fn chunk(ordinal: u32, text: &str) -> pb::Chunk {
    let axis = crate::fixture::axis(ordinal as usize);
    let embedding: Vec<u8> = axis.iter().flat_map(|value| value.to_le_bytes()).collect();
    pb::Chunk { ordinal, text: text.to_owned(), embedding: embedding.into(), heading: String::new() }
}
