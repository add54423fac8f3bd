//! On PostgreSQL and RabbitMQ: together, and with each of them gone for a while.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures::future::join_all;
use weft_mesh::error::ErrorKind;
use weft_proto::{
    database::v1::DocumentState,
    queue::v1::{GetStatsRequest, GetStatsResponse, JobState},
};
use weft_testkit::{Postgres, RabbitMq, eventually};

use crate::world::{Backend, World, ingest, start};

const PATIENCE: Duration = Duration::from_secs(90);

async fn publish(world: &World, from: usize, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for i in from..from + count {
        let id = format!("d{i}");
        world.surroundings.state.add_document(&id, "a.md", "text/markdown", b"# Title\n\nText.");
        ids.push(world.publish(ingest(&id, 1)).await.unwrap().job.unwrap().id);
    }
    ids
}

async fn all_succeed(world: &World, ids: &[String]) {
    for id in ids {
        eventually(PATIENCE, || async { world.job(id).await.state() == JobState::Succeeded }).await;
    }
    let state = world.surroundings.state.lock();
    assert!(state.documents.values().all(|document| document.state() == DocumentState::Ready));
}

async fn stats(world: &World) -> GetStatsResponse {
    world.client.clone().get_stats(GetStatsRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn everything_works_on_postgres_and_rabbitmq_with_two_replicas() {
    let world = World::start(Backend::Servers).await;
    let other = start(&world.config).await;
    let ids = publish(&world, 0, 60).await;
    all_succeed(&world, &ids).await;
    for id in &ids {
        assert_eq!(world.job(id).await.attempts, 1);
    }
    assert_eq!(world.surroundings.state.calls("complete_document"), 60, "each once");
    let stats = stats(&world).await;
    assert_eq!((stats.jobs_backend.as_str(), stats.broker_backend.as_str()), ("postgres", "rabbitmq"));
    assert!(stats.broker_connected);
    assert_eq!(stats.unpublished, 0);
    other.stop().await;
}

#[tokio::test]
async fn retries_go_through_the_broker_too() {
    let amqp = RabbitMq::shared().await.unwrap().vhost().await.unwrap();
    let world = World::with(Backend::Embedded, |config| config.broker.amqp_url = amqp.into()).await;
    world.surroundings.state.lock().failures.extend([tonic::Code::Internal; 3]);
    let ids = publish(&world, 0, 1).await;
    all_succeed(&world, &ids).await;
    assert_eq!(world.job(&ids[0]).await.attempts, 4);
}

#[tokio::test]
async fn rabbitmq_may_go_with_jobs_in_flight_and_come_back() {
    let server = RabbitMq::start().await.unwrap();
    let url = server.url().to_owned();
    let world = World::with(Backend::Embedded, |config| config.broker.amqp_url = url.into()).await;
    let state = &world.surroundings.state;
    state.close().await;
    let mut ids = publish(&world, 0, 20).await;
    eventually(PATIENCE, || async { state.calls("get_document") >= 8 }).await;
    server.stop().await.unwrap();
    // Jobs are taken and kept without it.
    ids.extend(publish(&world, 20, 20).await);
    state.open();
    eventually(PATIENCE, || async { !stats(&world).await.broker_connected }).await;
    assert!(stats(&world).await.unpublished >= 20);
    server.restart().await.unwrap();
    all_succeed(&world, &ids).await;
    assert_eq!(state.calls("complete_document"), 40, "each once, however often it was delivered");
    ids = publish(&world, 40, 5).await;
    all_succeed(&world, &ids).await;
}

#[tokio::test]
async fn postgres_may_go_and_come_back() {
    let server = Postgres::start().await.unwrap();
    let url = server.database().await.unwrap();
    let world = World::with(Backend::Embedded, |config| {
        config.jobs.url = url.into();
        config.jobs.timeout = Duration::from_secs(2);
    })
    .await;
    let ids = publish(&world, 0, 5).await;
    all_succeed(&world, &ids).await;
    world.surroundings.state.close().await;
    let kept = publish(&world, 5, 3).await;
    server.stop().await.unwrap();
    let error = world.publish(ingest("d0", 1)).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "JOB_STORE_UNAVAILABLE"));
    eventually(PATIENCE, || async { world.running.as_ref().unwrap().ready().is_err() }).await;
    server.restart().await.unwrap();
    world.surroundings.state.open();
    eventually(PATIENCE, || async { world.running.as_ref().unwrap().ready().is_ok() }).await;
    all_succeed(&world, &kept).await;
    let more = publish(&world, 8, 5).await;
    all_succeed(&world, &more).await;
}

#[tokio::test]
async fn postgres_killed_under_publishers_loses_no_job_that_was_acknowledged() {
    let server = Postgres::start().await.unwrap();
    let url = server.database().await.unwrap();
    let world = World::with(Backend::Embedded, |config| {
        config.jobs.url = url.into();
        config.jobs.timeout = Duration::from_secs(2);
    })
    .await;
    world.surroundings.state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    let published = AtomicUsize::new(0);
    let publish = async || {
        let mut acknowledged = Vec::new();
        loop {
            match world.publish(ingest("d", 1)).await {
                Ok(response) => acknowledged.push(response.job.unwrap().id),
                Err(error) => {
                    assert_eq!(error.reason, "JOB_STORE_UNAVAILABLE", "{error:?}");
                    return acknowledged;
                }
            }
            published.fetch_add(1, Relaxed);
        }
    };
    let publishers = join_all((0..8).map(|_| publish()));
    let killed = async {
        eventually(PATIENCE, || async { published.load(Relaxed) > 100 }).await;
        server.stop().await.unwrap();
    };
    let (acknowledged, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(publishers, killed) }).await.unwrap();
    server.restart().await.unwrap();
    let ids: Vec<String> = acknowledged.into_iter().flatten().collect();
    assert!(ids.len() > 100);
    eventually(PATIENCE, || async { world.running.as_ref().unwrap().ready().is_ok() }).await;
    all_succeed(&world, &ids).await;
}

/// Deletes a queue under its users, as somebody with the management console may.
async fn delete_queue(url: &str, name: &str) {
    use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};

    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test]
async fn a_queue_deleted_while_it_is_used_is_made_again_and_its_jobs_go_on() {
    let world = World::start(Backend::Servers).await;
    let ids = publish(&world, 0, 3).await;
    all_succeed(&world, &ids).await;
    delete_queue(world.config.broker.amqp_url.expose(), "document_queue").await;
    let ids = publish(&world, 3, 20).await;
    all_succeed(&world, &ids).await;
    assert_eq!(world.surroundings.state.calls("complete_document"), 23, "each once");
}
