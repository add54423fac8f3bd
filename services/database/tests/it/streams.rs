//! Many more streams than connections: none is held while a client sends, and memory stays bounded.

use std::sync::Arc;

use futures::{StreamExt, future::join_all, stream};
use tokio::sync::watch;
use weft_proto::database::v1 as pb;

use crate::{
    fixture::SLOW,
    mesh::{Backend, Mesh, acting, chunk, ok, on_every_backend, parts},
};

on_every_backend! {
    uploads_hold_no_connection_while_they_wait,
    a_large_upload_that_breaks_off_leaves_nothing,
}

const STREAMS: usize = 200;

async fn uploads_hold_no_connection_while_they_wait(backend: Backend) {
    let mesh = Mesh::configured(backend, |config| {
        // With the writer of SQLite that is three connections on either backend.
        config.database.readers = 2;
        config.database.pool_max = 3;
        config.database.acquire_timeout = SLOW;
    })
    .await;
    let go = Arc::new(watch::Sender::new(false));
    let begun = Arc::new(watch::Sender::new(0));
    let mut documents = Vec::new();
    for n in 0..STREAMS {
        documents.push(mesh.clients.put("ada", &format!("{n}.md"), 'a').await.unwrap().document.unwrap());
    }
    let uploads = documents.into_iter().enumerate().map(|(n, document)| {
        let (clients, mut going, begun) = (mesh.clients.clone(), go.subscribe(), Arc::clone(&begun));
        async move {
            let mut all = parts(&document.id, 1, 1, vec![chunk(0, &format!("text {n}"))]);
            let last = all.pop().unwrap();
            let wait = async move {
                begun.send_modify(|begun| *begun += 1);
                going.wait_for(|go| *go).await.unwrap();
                last
            };
            let sent = stream::iter(all).chain(stream::once(wait));
            let mut documents = clients.documents.clone();
            ok(acting("ada", documents.complete_document(sent)).await).document.unwrap()
        }
    });
    let meanwhile = async {
        begun.subscribe().wait_for(|begun| *begun == STREAMS).await.unwrap();
        // All of them are open now: whoever reads or writes is not disturbed.
        let chat = mesh.clients.chat("bob", "t").await;
        mesh.clients.get_chat("bob", &chat.id).await.unwrap();
        mesh.clients.list_chats("bob", 7).await;
        let stats = mesh.clients.stats().await;
        assert!(stats.pool.is_some_and(|pool| pool.open <= pool.max && pool.max == 3 && pool.timeouts == 0));
        go.send_replace(true);
    };
    let (ready, ()) =
        tokio::time::timeout(3 * SLOW, async { tokio::join!(join_all(uploads), meanwhile) }).await.unwrap();
    assert!(ready.iter().all(|document| document.state() == pb::DocumentState::Ready));
    mesh.settled().await;
    assert_eq!(mesh.memory.jobs("notification_queue").len(), STREAMS);
}

async fn a_large_upload_that_breaks_off_leaves_nothing(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let document = mesh.clients.put("ada", "big.txt", 'a').await.unwrap().document.unwrap();
    let batch = |from: u32| -> Vec<pb::Chunk> {
        (from..from + 40).map(|n| chunk(n, &"word ".repeat(3000))).collect()
    };
    let many = |batches: u32| {
        let mut all = parts(&document.id, 1, 400, Vec::new());
        all.pop();
        for n in 0..batches {
            all.push(parts("", 0, 0, batch(n * 40)).remove(1));
        }
        all
    };
    // The stream ends early, after some of it has been stored ahead.
    let error = mesh.clients.complete("ada", many(7)).await.unwrap_err();
    assert_eq!(error.fields[0].field, "header.chunk_count");
    let search = async || {
        let mut search = mesh.clients.search.clone();
        let question = pb::SearchChunksRequest { text: "word".into(), limit: 100, ..Default::default() };
        ok(acting("ada", search.search_chunks(question)).await).hits
    };
    assert!(search().await.is_empty());
    let discarded = async || {
        let mut insight = mesh.clients.insight.clone();
        let stats = ok(insight.list_query_stats(pb::ListQueryStatsRequest {}).await).queries;
        stats.iter().any(|stats| stats.name == "chunk_discard" && stats.rows > 0)
    };
    weft_testkit::eventually(SLOW, discarded).await;

    let ready = mesh.clients.complete("ada", many(10)).await.unwrap();
    assert_eq!((ready.state(), ready.chunk_count), (pb::DocumentState::Ready, 400));
    assert_eq!(search().await.len(), 100);
}
