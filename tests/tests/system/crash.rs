//! `kill -9` half-way: nothing acknowledged is lost, nothing is there twice, and doing it again finishes the rest. On
//! embedded backends, and on real ones.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use futures::TryStreamExt;
use tokio::process::Child;
use weft_client::Client;
use weft_proto::database::v1::{Document, DocumentState};
use weft_testkit::eventually;

use crate::process::{LIMIT, Mesh, word, write_documents};

/// Files with bytes of their own.
const DISTINCT: usize = 300;
/// One more has the bytes of the first: two documents, one asset.
const DOCUMENTS: usize = DISTINCT + 1;

fn write_all(folder: &Path) -> PathBuf {
    let documents = write_documents(folder, DISTINCT);
    fs::copy(documents.join("0000.md"), documents.join("twin.md")).unwrap();
    documents
}

async fn documents(client: &Client, state: Option<DocumentState>) -> Vec<Document> {
    client.documents().list(state).try_collect().await.unwrap_or_default()
}

async fn ready(client: &Client) -> usize {
    documents(client, Some(DocumentState::Ready)).await.len()
}

/// Waits until `share` documents are ready, sees that others are not, and says how many are.
async fn half_way(client: &Client, ingest: &mut Child, share: usize) -> usize {
    eventually(LIMIT, || async { ready(client).await >= share }).await;
    let ready = ready(client).await;
    assert!((share..DOCUMENTS).contains(&ready), "{ready} of {DOCUMENTS} are ready before the kill");
    assert!(ingest.try_wait().unwrap().is_none(), "it ended before it was killed");
    ready
}

/// Every document once, ready and found by its word; every asset and every notification once.
async fn assert_complete(client: &Client) {
    let documents = documents(client, None).await;
    assert_eq!(documents.len(), DOCUMENTS);
    let done = |document: &Document| document.state() == DocumentState::Ready && document.version == 1;
    assert!(documents.iter().all(done), "{documents:?}");
    let assets: Vec<_> = client.assets().list().try_collect().await.unwrap();
    assert_eq!(assets.len(), DISTINCT, "equal bytes are one asset");
    for i in (0..DISTINCT).step_by(29) {
        let hits = client.search().text(&word(i), 10).await.unwrap();
        let mut paths: Vec<_> = hits.into_iter().map(|hit| hit.path).collect();
        paths.sort();
        let twin = (i == 0).then(|| "twin.md".to_owned());
        let expected: Vec<_> = std::iter::once(format!("{i:04}.md")).chain(twin).collect();
        assert_eq!(paths, expected, "each document is found once");
    }
    let notified = || async {
        let notifications: Vec<_> = client.notifications().list().try_collect().await.unwrap();
        let mut count: HashMap<_, usize> = HashMap::new();
        for notification in notifications.iter().filter(|n| n.kind == "document.ready") {
            *count.entry(notification.subject_id.clone()).or_default() += 1;
        }
        assert!(count.values().all(|times| *times == 1), "nobody is told twice");
        count.len() == DOCUMENTS
    };
    eventually(LIMIT, notified).await;
}

async fn ingest_again(mesh: &Mesh, documents: &Path) {
    let output = mesh.ingest(documents).wait_with_output().await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

/// `weft ingest` is killed.
async fn kill_ingest(backends: &str) {
    let mesh = Mesh::start(backends).await;
    let folder = write_all(mesh.folder.path());
    let client = mesh.client().await;
    let mut first = mesh.ingest(&folder);
    half_way(&client, &mut first, 30).await;
    first.kill().await.unwrap();
    ingest_again(&mesh, &folder).await;
    assert_complete(&client).await;
}

/// `weft up` is killed, twice.
async fn kill_mesh(backends: &str) {
    let mut mesh = Mesh::start(backends).await;
    let folder = write_all(mesh.folder.path());
    let client = mesh.client().await;
    for share in [30, 120] {
        let mut ingest = mesh.ingest(&folder);
        let before = half_way(&client, &mut ingest, share).await;
        mesh.kill().await;
        ingest.kill().await.unwrap();
        mesh.restart();
        assert!(ready(&mesh.client().await).await >= before, "what was ready is ready");
    }
    ingest_again(&mesh, &folder).await;
    assert_complete(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_killed_half_way_is_finished_by_the_next() {
    kill_ingest("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_killed_half_way_loses_nothing_and_repeats_nothing() {
    kill_mesh("").await;
}

#[cfg(feature = "real-backends")]
mod real {
    use weft_testkit::Servers;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_ingest_killed_half_way_is_finished_by_the_next() {
        let servers = Servers::start().await.unwrap();
        super::kill_ingest(&servers.config()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mesh_killed_half_way_loses_nothing_and_repeats_nothing() {
        let servers = Servers::start().await.unwrap();
        super::kill_mesh(&servers.config()).await;
    }
}
