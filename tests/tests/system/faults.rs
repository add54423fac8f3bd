//! Every dependency killed under the running mesh and started again: calls fail clearly or degrade as the service's
//! README says; afterwards everything works without a restart, and nothing acknowledged is lost.

use std::time::Duration;

use futures::TryStreamExt;
use weft::{
    ask::ask,
    up::{Config, Mesh, up},
};
use weft_client::{Client, Source, Upload};
use weft_mesh::{
    Channel,
    error::{CallError, ErrorKind},
};
use weft_proto::{
    cache::v1::{GetRequest, cache_service_client::CacheServiceClient, get_response},
    queue::v1::{JobState, PublishRequest, PublishResponse, queue_service_client::QueueServiceClient},
};
use weft_runtime::config::Sources;
use weft_testkit::{Servers, eventually, eventually_ok};

use crate::process::{LIMIT, WEFT};

struct Real {
    servers: Servers,
    mesh: Mesh,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Real {
    async fn start() -> Self {
        let servers = Servers::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config =
            Config::load(&Sources::from_text(&servers.config()).unwrap(), folder.path()).unwrap();
        for listener in &mut config.gateway.listeners {
            listener.address = "127.0.0.1:0".into();
        }
        for address in [
            &mut config.gateway.admin.address,
            &mut config.cache.address,
            &mut config.cache.admin.address,
            &mut config.database.address,
            &mut config.database.admin.address,
            &mut config.queue.address,
            &mut config.queue.admin.address,
            &mut config.assets.address,
            &mut config.assets.admin.address,
        ] {
            *address = "127.0.0.1:0".into();
        }
        config.queue.extractor.command = vec![WEFT.to_owned(), "extract".to_owned()];
        let mesh = Box::pin(up(config)).await.unwrap();
        mesh.wait_ready(LIMIT).await;
        let client = Client::connect(&format!("http://{}", mesh.gateway), "ada").await.unwrap();
        Self { servers, mesh, client, _folder: folder }
    }

    /// A question is asked and answered: cache, database, queue and worker all do their part.
    async fn works(&self) {
        let answered = || async { ask(&self.client, "Does it work?", None, LIMIT, |_| Ok(true)).await };
        eventually_ok(LIMIT, answered).await.expect("an answer");
    }

    fn channel(&self) -> Channel {
        Channel::direct(self.mesh.gateway)
    }

    async fn publish(&self, key: &str) -> Result<PublishResponse, CallError> {
        let request = PublishRequest {
            queue: "notification_queue".into(),
            r#type: "weft.queue.v1.DeliverNotification".into(),
            payload: prost::Message::encode_to_vec(&weft_proto::queue::v1::DeliverNotification {
                kind: "document.ready".into(),
                text: key.into(),
                subject_id: key.into(),
            })
            .into(),
            idempotency_key: key.into(),
            ..PublishRequest::default()
        };
        let published = QueueServiceClient::new(self.channel()).publish(request).await;
        Ok(published.map_err(CallError::from)?.into_inner())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_dies_and_reads_go_on_and_are_never_stale() {
    let real = Real::start().await;
    let chat = real.client.chats().create("before", "", "").await.unwrap();
    // Twice: the first read fills the cache.
    for _ in 0..2 {
        assert_eq!(real.client.chats().get(&chat.id).await.unwrap().title, "before");
    }
    real.servers.redis.pause().await.unwrap();
    let renamed = real.client.chats().rename(&chat.id, "after").await.unwrap();
    assert_eq!(renamed.title, "after", "a dead cache costs no write");
    assert_eq!(real.client.chats().get(&chat.id).await.unwrap().title, "after", "nor a read");
    real.servers.redis.resume().await.unwrap();

    // Redis still holds the old value; the outbox repeats the invalidation until it is gone for good.
    let key = format!("chat:{}", chat.id);
    let fresh = || async {
        let cached = CacheServiceClient::new(real.channel()).get(GetRequest { key: key.clone() }).await;
        !matches!(cached.map(|c| c.into_inner().result), Ok(Some(get_response::Result::Hit(hit)))
            if String::from_utf8_lossy(&hit.value).contains("before"))
    };
    eventually(LIMIT, fresh).await;
    assert_eq!(real.client.chats().get(&chat.id).await.unwrap().title, "after");

    real.servers.redis.stop().await.unwrap();
    real.works().await;
    real.servers.redis.restart().await.unwrap();
    real.works().await;
    real.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_dies_and_calls_say_so_until_it_is_back() {
    let real = Real::start().await;
    let chat = real.client.chats().create("kept", "", "").await.unwrap();
    real.works().await;
    real.servers.postgres.stop().await.unwrap();
    let error = eventually_err(|| async { real.publish("lost?").await }).await;
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    let error = eventually_err(|| async { create_chat(&real).await }).await;
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    real.servers.postgres.restart().await.unwrap();
    real.works().await;
    assert_eq!(real.client.chats().get(&chat.id).await.unwrap().title, "kept");
    real.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_dies_and_acknowledged_jobs_are_done_when_it_is_back() {
    let real = Real::start().await;
    real.works().await;
    real.servers.rabbitmq.stop().await.unwrap();
    let mut ids = Vec::new();
    for i in 0..20 {
        let published = eventually_ok(LIMIT, || async { real.publish(&format!("job-{i}")).await }).await;
        ids.push(published.job.unwrap().id);
    }
    real.servers.rabbitmq.restart().await.unwrap();
    for id in &ids {
        let done = || async {
            let mut jobs = QueueServiceClient::new(real.channel());
            let job = jobs.get_job(weft_proto::queue::v1::GetJobRequest { id: id.clone() }).await;
            job.is_ok_and(|job| job.into_inner().job.is_some_and(|job| job.state() == JobState::Succeeded))
        };
        eventually(LIMIT * 2, done).await;
    }
    real.works().await;
    real.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_dies_and_acknowledged_assets_are_there_when_it_is_back() {
    let real = Real::start().await;
    let assets = real.client.assets();
    let upload = |text: &'static str| Upload::private("note.txt", Source::Bytes(text.into()));
    let kept = assets.put(&upload("kept")).await.unwrap().asset;
    real.servers.s3.stop().await.unwrap();
    let refused = tokio::time::timeout(LIMIT, assets.put(&upload("refused"))).await.expect("a clear answer");
    assert!(refused.is_err());
    real.servers.s3.restart().await.unwrap();
    eventually_ok(LIMIT, || async { assets.put(&upload("again")).await }).await;
    let stored: Vec<_> = assets.list().try_collect().await.unwrap();
    assert_eq!(stored.len(), 2, "nothing of the refused upload is there");
    assert!(stored.iter().any(|asset| asset.id == kept.id));
    real.works().await;
    real.mesh.stop().await;
}

async fn create_chat(real: &Real) -> Result<(), CallError> {
    let mut chats = weft_proto::database::v1::chat_service_client::ChatServiceClient::new(real.channel());
    chats.create_chat(weft_proto::database::v1::CreateChatRequest::default()).await?;
    Ok(())
}

/// Calls until a call fails, and hands out how: what a dead server leaves behind may take a moment to be noticed.
async fn eventually_err<T, F>(mut call: impl FnMut() -> F) -> CallError
where
    F: Future<Output = Result<T, CallError>>,
{
    let failing = async {
        loop {
            if let Err(error) = call().await {
                return error;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), failing).await.expect("a failure")
}
