//! What operators see of the queries, through gRPC.

use std::time::Duration;

use weft_proto::database::v1 as pb;

use crate::mesh::{Backend, Mesh, ok, on_every_backend};

on_every_backend! {
    slow_queries_are_listed_slowest_first,
    quick_queries_are_not_slow,
}

async fn slow_queries(mesh: &Mesh, limit: i32) -> Vec<pb::SlowQuery> {
    let mut insight = mesh.clients.insight.clone();
    ok(insight.list_slow_queries(pb::ListSlowQueriesRequest { limit }).await).queries
}

async fn slow_queries_are_listed_slowest_first(backend: Backend) {
    let mesh = Mesh::configured(backend, |config| config.insight.slow_query = Duration::ZERO).await;
    mesh.clients.chat("ada", "t").await;
    mesh.clients.list_chats("ada", 7).await;
    let slow = slow_queries(&mesh, 0).await;
    let listed: Vec<_> = slow.iter().filter(|query| query.name == "chat_list").collect();
    assert_eq!(listed.len(), 1, "{slow:?}");
    assert_eq!(listed[0].rows, 1);
    assert!(listed[0].time.is_some());
    let elapsed = |query: &pb::SlowQuery| Duration::try_from(query.elapsed.unwrap()).unwrap();
    assert!(slow.is_sorted_by(|one, next| elapsed(one) >= elapsed(next)), "{slow:?}");
    assert_eq!(slow_queries(&mesh, 1).await.len(), 1);
}

async fn quick_queries_are_not_slow(backend: Backend) {
    let mesh = Mesh::configured(backend, |config| config.insight.slow_query = Duration::from_secs(60)).await;
    mesh.clients.chat("ada", "t").await;
    assert_eq!(slow_queries(&mesh, 0).await, []);
}
