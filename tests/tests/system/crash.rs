//! `kill -9` half-way: nothing acknowledged is lost, nothing is there twice, and doing it again finishes the rest.

use std::collections::HashMap;

use futures::TryStreamExt;
use weft_client::Client;
use weft_proto::database::v1::DocumentState;
use weft_testkit::eventually;

use crate::process::{LIMIT, Mesh, word, write_documents};

const DOCUMENTS: usize = 300;

async fn ready(client: &Client) -> usize {
    let documents: Result<Vec<_>, _> =
        client.documents().list(Some(DocumentState::Ready)).try_collect().await;
    documents.map_or(0, |documents| documents.len())
}

/// Every document once, ready and found by its word; every notification once.
async fn assert_complete(client: &Client) {
    let documents: Vec<_> = client.documents().list(None).try_collect().await.unwrap();
    assert_eq!(documents.len(), DOCUMENTS);
    assert!(
        documents.iter().all(|document| document.state() == DocumentState::Ready && document.version == 1)
    );
    for i in (0..DOCUMENTS).step_by(29) {
        let hits = client.search().text(&word(i), 10).await.unwrap();
        assert_eq!(hits.len(), 1, "document {i} is found once");
        assert_eq!(hits[0].path, format!("{i:04}.md"));
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

async fn ingest_again(mesh: &Mesh) {
    let output = mesh.ingest(&mesh.folder.path().join("documents")).wait_with_output().await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_killed_half_way_is_finished_by_the_next() {
    let mesh = Mesh::start("").await;
    let documents = write_documents(mesh.folder.path(), DOCUMENTS);
    let client = mesh.client().await;
    let mut first = mesh.ingest(&documents);
    eventually(LIMIT, || async { ready(&client).await >= 30 }).await;
    first.kill().await.unwrap();
    assert!(ready(&client).await < DOCUMENTS, "it was killed half-way");
    ingest_again(&mesh).await;
    assert_complete(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_killed_half_way_loses_nothing_and_repeats_nothing() {
    let mut mesh = Mesh::start("").await;
    let documents = write_documents(mesh.folder.path(), DOCUMENTS);
    let client = mesh.client().await;
    for share in [30, 120] {
        let mut ingest = mesh.ingest(&documents);
        eventually(LIMIT, || async { ready(&client).await >= share }).await;
        mesh.kill().await;
        ingest.kill().await.unwrap();
        mesh.restart();
        let client = mesh.client().await;
        assert!(ready(&client).await >= share, "what was ready is ready");
    }
    let client = mesh.client().await;
    ingest_again(&mesh).await;
    assert_complete(&client).await;
}
