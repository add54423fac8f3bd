//! The process dies at each point of a write's life; what it owes is done all the same, and only once.

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc};

use tempfile::TempDir;
use tokio::process::{Child, Command};
use weft_mesh::error::CallError;

use crate::{
    fixture::SLOW,
    mesh::Clients,
    peers::{self, Memory, Slot, Which},
};

const POINTS: [&str; 4] = ["before_commit", "after_commit", "after_publish", "before_row_delete"];

/// A real `weft-database` in a process of its own.
struct Process {
    child: Child,
    clients: Clients,
}

struct Scene {
    folder: TempDir,
    memory: Arc<Memory>,
    cache: weft_runtime::Running,
    queue: weft_runtime::Running,
    url: Option<String>,
}

impl Scene {
    async fn new(url: Option<String>) -> Self {
        let memory = Arc::new(Memory::default());
        let cache = peers::serve(Which::Cache, "127.0.0.1:0", &memory).await;
        let queue = peers::serve(Which::Queue, "127.0.0.1:0", &memory).await;
        Self { folder: TempDir::new().unwrap(), memory, cache, queue, url }
    }

    async fn start(&self, failpoint: Option<&str>) -> Process {
        let address = SocketAddr::from(([127, 0, 0, 1], weft_testkit::free_port().unwrap()));
        let url = self.url.as_ref().map(|url| format!("[database]\nurl = \"{url}\"\n")).unwrap_or_default();
        let failpoint = failpoint.map(|point| format!("failpoint = \"{point}\"\n")).unwrap_or_default();
        let config = format!(
            "address = \"{address}\"\ndata_dir = \"{}\"\n{failpoint}{url}\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [cache]\naddresses = [\"{}\"]\n[queue]\naddresses = [\"{}\"]\n[outbox]\npoll = \"50ms\"\n",
            self.folder.path().display(),
            self.cache.address,
            self.queue.address,
        );
        let file = self.folder.path().join("weft.toml");
        std::fs::write(&file, config).unwrap();
        let process = Process { child: spawn(&file), clients: Clients::at(address) };
        let answers = async || {
            let mut insight = process.clients.insight.clone();
            let stats = insight.get_stats(weft_proto::database::v1::GetStatsRequest {}).await;
            stats.is_ok_and(|stats| stats.into_inner().reachable)
        };
        weft_testkit::eventually(SLOW, answers).await;
        process
    }
}

impl Process {
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn spawn(config: &Path) -> Child {
    Command::from(weft_testkit::hermetic(env!("CARGO_BIN_EXE_weft-database")))
        .arg("--config")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What the outcome of a write looks like: the job's id.
type Outcome = Result<String, CallError>;

async fn post(clients: &Clients, chat: &str) -> Outcome {
    clients.post("ada", chat, "hello", "key").await.map(|posted| posted.job_id)
}

async fn put(clients: &Clients) -> Outcome {
    clients.put("ada", "a.md", 'a').await.map(|put| put.document.unwrap().job_id)
}

async fn a_posted_message_survives(point: &str, url: Option<String>) {
    let scene = Scene::new(url).await;
    let first = scene.start(None).await;
    let chat = first.clients.chat("ada", "t").await.id;
    first.clients.settled().await;
    // A cache entry that may become stale.
    let is_cached = async || {
        first.clients.get_chat("ada", &chat).await.unwrap();
        matches!(scene.memory.slots().get(&format!("chat:{chat}")), Some(Slot::Value(_)))
    };
    weft_testkit::eventually(SLOW, is_cached).await;
    first.kill().await;

    let mut dying = scene.start(Some(point)).await;
    drop(post(&dying.clients, &chat).await);
    assert!(!dying.child.wait().await.unwrap().success());

    let second = scene.start(None).await;
    second.clients.settled().await;
    let stored = second.clients.messages("ada", &chat).await;
    if point == "before_commit" {
        assert!(stored.is_empty());
        assert!(scene.memory.jobs("chat_queue").is_empty());
    } else {
        assert_eq!(stored.len(), 1);
        assert_eq!(scene.memory.jobs("chat_queue"), [("ada".to_owned(), stored[0].job_id.clone())]);
        assert_eq!(second.clients.get_chat("ada", &chat).await.unwrap().message_count, 1, "nothing stale");
    }

    // The caller, who does not know what became of it, repeats the call.
    let job = post(&second.clients, &chat).await.unwrap();
    second.clients.settled().await;
    let stored = second.clients.messages("ada", &chat).await;
    assert_eq!(stored.iter().map(|message| &message.job_id).collect::<Vec<_>>(), [&job]);
    assert_eq!(scene.memory.jobs("chat_queue"), [("ada".to_owned(), job)], "nothing twice");
    assert_eq!(second.clients.get_chat("ada", &chat).await.unwrap().message_count, 1);
    second.kill().await;
}

async fn a_put_document_survives(point: &str, url: Option<String>) {
    let scene = Scene::new(url).await;
    let first = scene.start(None).await;
    first.clients.chat("ada", "makes the user").await;
    assert!(first.clients.documents("ada").await.is_empty());
    first.clients.settled().await;
    first.kill().await;

    let mut dying = scene.start(Some(point)).await;
    drop(put(&dying.clients).await);
    assert!(!dying.child.wait().await.unwrap().success());

    let second = scene.start(None).await;
    second.clients.settled().await;
    let lost = usize::from(point != "before_commit");
    assert_eq!(second.clients.documents("ada").await.len(), lost, "neither lost nor stale");
    let job = put(&second.clients).await.unwrap();
    second.clients.settled().await;
    assert_eq!(second.clients.documents("ada").await.len(), 1);
    assert_eq!(scene.memory.jobs("document_queue"), [("ada".to_owned(), job)]);
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_message_survives_a_crash_at_every_point() {
    for point in POINTS {
        a_posted_message_survives(point, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_document_survives_a_crash_at_every_point() {
    for point in POINTS {
        a_put_document_survives(point, None).await;
    }
}

#[cfg(feature = "real-backends")]
#[tokio::test(flavor = "multi_thread")]
async fn writes_survive_a_crash_at_every_point_on_postgres() {
    let server = weft_testkit::Postgres::shared().await.unwrap();
    for point in POINTS {
        a_posted_message_survives(point, Some(server.database().await.unwrap())).await;
        a_put_document_survives(point, Some(server.database().await.unwrap())).await;
    }
}

/// Acknowledged writes are there after `kill -9` in the middle of many.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_kill_9() {
    let scene = Scene::new(None).await;
    let process = scene.start(None).await;
    let chat = process.clients.chat("ada", "t").await.id;
    let clients = process.clients.clone();
    let writers = (0..8).map(|writer| {
        let (clients, chat) = (clients.clone(), chat.clone());
        async move {
            let mut acknowledged = Vec::new();
            for n in 0..10_000 {
                match clients.post("ada", &chat, "x", &format!("{writer}-{n}")).await {
                    Ok(posted) => acknowledged.push((posted.message.unwrap().id, posted.job_id)),
                    Err(_) => break,
                }
            }
            acknowledged
        }
    });
    let killed = async {
        let busy = async || clients.get_chat("ada", &chat).await.is_ok_and(|chat| chat.message_count > 100);
        weft_testkit::eventually(SLOW, busy).await;
        process.kill().await;
    };
    let (acknowledged, ()) = tokio::join!(futures::future::join_all(writers), killed);
    let mut acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    assert!(acknowledged.len() > 50);

    let second = scene.start(None).await;
    second.clients.settled().await;
    let jobs = scene.memory.jobs("chat_queue");
    let mut stored = Vec::new();
    let mut page_token = String::new();
    loop {
        let mut messages = second.clients.messages.clone();
        let request = weft_proto::database::v1::ListMessagesRequest {
            chat_id: chat.clone(),
            page_size: 500,
            page_token,
        };
        let page = crate::mesh::ok(crate::mesh::acting("ada", messages.list_messages(request)).await);
        stored.extend(page.messages.into_iter().map(|message| (message.id, message.job_id)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    acknowledged.retain(|one| !stored.contains(one));
    assert!(acknowledged.is_empty(), "lost: {acknowledged:?}");
    assert_eq!(jobs.len(), stored.len(), "a job for each message");
    assert!(stored.iter().all(|(_, job)| jobs.contains(&("ada".to_owned(), job.clone()))));
    second.kill().await;
}
