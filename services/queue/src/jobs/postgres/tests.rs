//! The contract on PostgreSQL, and what happens when it goes away.

use std::{sync::Arc, time::Duration};

use weft_mesh::error::{Classify as _, ErrorKind};
use weft_testkit::{FaultProxy, Postgres, eventually};

use crate::jobs::{
    Jobs,
    conformance::{Store, new_job, run},
    postgres::{PoolLimits, PostgresJobs},
};

const LIMITS: PoolLimits = PoolLimits { max_connections: 8, timeout: Duration::from_secs(10) };

async fn open() -> Store {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let jobs: Arc<dyn Jobs> = Arc::new(PostgresJobs::new(&url, LIMITS).unwrap());
    let reopen = move || {
        let jobs: Arc<dyn Jobs> = Arc::new(PostgresJobs::new(&url, LIMITS).unwrap());
        Box::pin(async move { jobs }) as _
    };
    Store { jobs, reopen: Box::new(reopen), _guard: Box::new(()) }
}

run!(open);

#[tokio::test]
async fn replicas_may_start_on_an_empty_database_at_once() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let replicas: Vec<PostgresJobs> = (0..4).map(|_| PostgresJobs::new(&url, LIMITS).unwrap()).collect();
    for probed in futures::future::join_all(replicas.iter().map(Jobs::probe)).await {
        assert!(probed.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_claim_waits_for_a_job_that_somebody_else_has_in_hand() {
    let url = Postgres::shared().await.unwrap().database().await.unwrap();
    let jobs = PostgresJobs::new(&url, LIMITS).unwrap();
    let id = new_job(1).id;
    jobs.insert(&[new_job(1)], 0).await.unwrap();
    // As the relay does while it marks the job as published: the delivery may be there before that is committed.
    let mut relay = jobs.pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *relay).await.unwrap();
    let waiting = async {
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND wait_event_type = 'Lock'";
        let is_blocked =
            || async { sqlx::query_scalar::<_, i64>(blocked).fetch_one(&jobs.pool).await.unwrap() == 1 };
        eventually(Duration::from_secs(10), is_blocked).await;
        relay.commit().await.unwrap();
    };
    let (ids, due) = ([id], new_job(1).due_at);
    let (claimed, ()) = tokio::join!(jobs.claim(&ids, "worker", due + 60_000, due), waiting);
    assert_eq!(claimed.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_used_again_and_has_everything() {
    let server = Postgres::start().await.unwrap();
    let limits = PoolLimits { timeout: Duration::from_secs(2), ..LIMITS };
    let jobs = PostgresJobs::new(&server.database().await.unwrap(), limits).unwrap();
    jobs.insert(&[new_job(1)], 0).await.unwrap();
    server.stop().await.unwrap();
    let error = jobs.insert(&[new_job(2)], 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    server.restart().await.unwrap();
    eventually(Duration::from_secs(30), || async { jobs.probe().await.is_ok() }).await;
    assert_eq!(jobs.get(&[new_job(1).id]).await.unwrap().len(), 1);
    jobs.insert(&[new_job(2)], 0).await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_does_not_hang_its_callers() {
    let server = Postgres::shared().await.unwrap();
    let url = server.database().await.unwrap();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let url = proxy.url(&url);
    let limits = PoolLimits { timeout: Duration::from_secs(1), ..LIMITS };
    let jobs = PostgresJobs::new(&url, limits).unwrap();
    jobs.insert(&[new_job(1)], 0).await.unwrap();
    proxy.stall().await;
    let error = jobs.insert(&[new_job(2)], 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    proxy.heal().await.unwrap();
    eventually(Duration::from_secs(30), || async { jobs.insert(&[new_job(2)], 0).await.is_ok() }).await;
}
