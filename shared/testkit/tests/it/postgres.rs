//! A private PostgreSQL, by way of its client.
use sqlx::{Connection as _, Executor as _, PgConnection};
use weft_testkit::{Postgres, eventually_ok};

use crate::SOON;

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

#[tokio::test]
async fn keeps_committed_rows_through_a_kill_with_clients_connected() {
    let server = Postgres::start().await.unwrap();
    let mut connection = connect(server.url()).await;
    connection.execute("create table t (n int)").await.unwrap();
    connection.execute("insert into t select generate_series(1, 1000)").await.unwrap();
    server.stop().await.unwrap();
    assert!(connection.execute("select 1").await.is_err());
    server.restart().await.unwrap();
    let mut connection = connect(server.url()).await;
    let count: i64 = sqlx::query_scalar("select count(*) from t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(count, 1000);
}

#[tokio::test]
async fn has_pgvector_and_a_database_per_test() {
    let server = Postgres::shared().await.unwrap();
    let (one, other) = tokio::try_join!(server.database(), server.database()).unwrap();
    let mut one = connect(&one).await;
    let mut other = connect(&other).await;
    one.execute("create extension vector; create table t (v vector(3)); insert into t values ('[1,2,3]')")
        .await
        .unwrap();
    let distance: f64 =
        sqlx::query_scalar("select v <-> '[1,2,5]' from t").fetch_one(&mut one).await.unwrap();
    assert!((distance - 2.0).abs() < 1e-6, "{distance}");
    assert!(other.execute("select * from t").await.is_err());
    let version: String = sqlx::query_scalar("show server_version").fetch_one(&mut one).await.unwrap();
    assert!(version.starts_with("18."), "{version}");
}

#[tokio::test]
async fn a_paused_one_answers_when_it_is_resumed() {
    let server = Postgres::start().await.unwrap();
    let mut connection = connect(server.url()).await;
    server.pause().await.unwrap();
    let silent = tokio::time::timeout(crate::A_WHILE, connection.execute("select 1")).await;
    assert!(silent.is_err());
    server.resume().await.unwrap();
    eventually_ok(SOON, || async { connect(server.url()).await.execute("select 1").await }).await;
}
