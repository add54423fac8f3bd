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
    mesh::{self, Clients, acting, ok},
};

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
        // UNAVAILABLE, and neither the caller's deadline nor the limit for a connection: it came before both.
        let error = get(&clients, &chat, SLOW).await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "DATABASE_UNAVAILABLE"));
        let write = clients.post("ada", &chat, "lost", "").await.unwrap_err();
        assert_eq!(write.kind, ErrorKind::Unavailable);
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
    let hurried = get(&clients, &chat, Duration::from_millis(700));
    let error = tokio::time::timeout(SLOW, hurried).await.expect("an end of it").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::DeadlineExceeded | ErrorKind::Unavailable), "{error:?}");
    weft_testkit::eventually(SLOW, || async { running.ready().is_err() }).await;
    // Known by now: not even this patient caller's time is waited for.
    assert_eq!(get(&clients, &chat, SLOW).await.unwrap_err().kind, ErrorKind::Unavailable);

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

/// Writes chats with a message each until the server is gone, and returns what was acknowledged: chats and messages.
async fn write_until_it_fails(clients: &Clients, writer: usize) -> Vec<(String, Option<String>)> {
    let mut acknowledged = Vec::new();
    let mut chats = clients.chats.clone();
    for n in 0.. {
        let request = pb::CreateChatRequest { title: format!("{writer}-{n}"), ..Default::default() };
        let error = match acting("ada", chats.create_chat(request)).await {
            Err(status) => CallError::from(status),
            Ok(created) => {
                let chat = created.into_inner().chat.unwrap().id;
                let posted = clients.post("ada", &chat, &format!("message {writer}-{n}"), "").await;
                let message = posted.as_ref().ok().map(|posted| posted.message.clone().unwrap().id);
                acknowledged.push((chat, message));
                match posted {
                    Ok(_) => continue,
                    Err(error) => error,
                }
            }
        };
        assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "DATABASE_UNAVAILABLE"));
        break;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_writes_loses_none_that_was_acknowledged() {
    let server = Postgres::start().await.unwrap();
    let (running, clients, _folder) = service(server.url()).await;
    tokio::time::timeout(SLOW, running.wait_ready()).await.unwrap();
    let writers = futures::future::join_all((0..8).map(|writer| write_until_it_fails(&clients, writer)));
    let killed = async {
        let busy = async || {
            let mut insight = clients.insight.clone();
            let stats = ok(insight.list_query_stats(pb::ListQueryStatsRequest {}).await).queries;
            stats.iter().any(|query| query.name == "message_insert" && query.calls > 100)
        };
        weft_testkit::eventually(SLOW, busy).await;
        server.stop().await.unwrap();
    };
    let (acknowledged, ()) =
        tokio::time::timeout(2 * SLOW, async { tokio::join!(writers, killed) }).await.unwrap();
    let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());

    server.restart().await.unwrap();
    weft_testkit::eventually(SLOW, || async { running.ready().is_ok() }).await;
    for (chat, message) in &acknowledged {
        get(&clients, chat, SLOW).await.unwrap();
        let stored = clients.messages("ada", chat).await;
        let lost = message.as_ref().filter(|id| !stored.iter().any(|stored| &stored.id == *id));
        assert_eq!(lost, None, "lost in chat {chat}");
    }
    running.stop().await;
}
