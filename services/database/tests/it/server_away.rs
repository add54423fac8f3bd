//! PostgreSQL stops, hangs, and comes back: calls fail clearly and promptly, then work again by themselves.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use weft_database::Config;
use weft_mesh::{
    context::{self, Context},
    error::{CallError, ErrorKind},
};
use weft_proto::database::v1 as pb;
use weft_runtime::{Running, config::Secret};
use weft_testkit::Postgres;

use crate::{
    fixture::SLOW,
    mesh::{self, Clients},
};

/// Far less than any deadline: a call that fails does not make its caller wait.
const PROMPT: Duration = Duration::from_secs(4);

async fn service(url: &str) -> (Running, Clients, TempDir) {
    let folder = TempDir::new().unwrap();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut config: Config = mesh::config(&folder, nowhere, nowhere);
    config.cache.addresses.clear();
    config.queue.addresses.clear();
    config.database.url = Some(Secret::new(url));
    let running = mesh::start(config).await;
    let clients = Clients::at(running.address);
    (running, clients, folder)
}

async fn get(clients: &Clients, id: &str, deadline: Duration) -> Result<pb::Chat, CallError> {
    let mut chats = clients.chats.clone();
    let context = Context::acting_for("ada").until(Instant::now() + deadline);
    let call = chats.get_chat(pb::GetChatRequest { id: id.to_owned() });
    let response = context::scope(context, call).await.map_err(CallError::from)?;
    Ok(response.into_inner().chat.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn c23_calls_fail_while_the_server_is_stopped_and_work_after() {
    let server = Postgres::start().await.unwrap();
    let (running, clients, _folder) = service(server.url()).await;
    tokio::time::timeout(SLOW, running.wait_ready()).await.unwrap();
    let chat = clients.chat("ada", "kept").await.id;

    server.stop().await.unwrap();
    for _ in 0..20 {
        let start = Instant::now();
        let error = get(&clients, &chat, SLOW).await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "DATABASE_UNAVAILABLE"));
        let write = clients.post("ada", &chat, "lost", "").await.unwrap_err();
        assert_eq!(write.kind, ErrorKind::Unavailable);
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    }
    weft_testkit::eventually(SLOW, || async { running.ready().is_err() }).await;
    assert!(!clients.stats().await.reachable);

    server.restart().await.unwrap();
    weft_testkit::eventually(SLOW, || async { running.ready().is_ok() }).await;
    assert_eq!(get(&clients, &chat, SLOW).await.unwrap().title, "kept");
    clients.post("ada", &chat, "after", "").await.unwrap();
    assert_eq!(clients.messages("ada", &chat).await.len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c23_a_server_that_hangs_costs_no_more_than_the_deadline() {
    let server = Postgres::start().await.unwrap();
    let (running, clients, _folder) = service(server.url()).await;
    tokio::time::timeout(SLOW, running.wait_ready()).await.unwrap();
    let chat = clients.chat("ada", "kept").await.id;

    server.pause().await.unwrap();
    let start = Instant::now();
    let error = get(&clients, &chat, Duration::from_millis(700)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::DeadlineExceeded | ErrorKind::Unavailable), "{error:?}");
    assert!(start.elapsed() < PROMPT);
    weft_testkit::eventually(SLOW, || async { running.ready().is_err() }).await;
    let start = Instant::now();
    assert_eq!(get(&clients, &chat, SLOW).await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(start.elapsed() < PROMPT);

    server.resume().await.unwrap();
    weft_testkit::eventually(SLOW, || async { get(&clients, &chat, SLOW).await.is_ok() }).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c23_it_starts_before_its_server() {
    let server = Postgres::start().await.unwrap();
    server.stop().await.unwrap();
    let (running, clients, _folder) = service(server.url()).await;
    assert!(running.ready().is_err());
    assert_eq!(get(&clients, "x", SLOW).await.unwrap_err().kind, ErrorKind::Unavailable);
    server.restart().await.unwrap();
    tokio::time::timeout(SLOW, running.wait_ready()).await.unwrap();
    clients.chat("ada", "made after the migration").await;
    running.stop().await;
}
