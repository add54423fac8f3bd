//! `grpc.health.v1`: what a stream says counts at once, and silence is asked after.

use std::time::Duration;

use tonic_health::ServingStatus;
use weft_balance::{Health, Thresholds};
use weft_mesh::{pool::Settings, probe::Check};
use weft_testkit::{FaultProxy, eventually};

use crate::{Fixture, SOON, server::Backend, settings};

fn grpc() -> Settings {
    settings(Check::Grpc { service: String::new() })
}

/// Checked often, so that a test need not wait long for several checks.
fn quick() -> Settings {
    Settings { interval: Duration::from_millis(50), timeout: Duration::from_millis(500), ..grpc() }
}

#[tokio::test]
async fn what_the_stream_says_counts_at_once() {
    let backend = Backend::start().await;
    let thresholds = Thresholds { healthy: 100, unhealthy: 100 };
    let fixture = Fixture::checked(backend.address, Settings { thresholds, ..grpc() });
    fixture.until_health(Health::Healthy).await;
    for _ in 0..3 {
        backend.set(ServingStatus::NotServing).await;
        fixture.until_health(Health::Unhealthy).await;
        backend.set(ServingStatus::Serving).await;
        fixture.until_health(Health::Healthy).await;
    }
    assert_eq!(backend.counts.of(|counts| &counts.connections), 1, "one connection, kept");
    assert_eq!(backend.counts.of(|counts| &counts.watches), 1, "one stream, kept");
}

#[tokio::test]
async fn a_silent_stream_is_confirmed_on_its_connection() {
    let backend = Backend::start().await;
    let fixture = Fixture::checked(backend.address, quick());
    eventually(SOON, || async { backend.counts.of(|counts| &counts.checks) >= 3 }).await;
    assert_eq!(fixture.health(), Health::Healthy);
    assert_eq!(backend.counts.of(|counts| &counts.connections), 1);
}

#[tokio::test]
async fn a_backend_that_hangs_is_noticed_and_one_that_wakes_is_taken_back() {
    let backend = Backend::start().await;
    let proxy = FaultProxy::start(backend.address).await.unwrap();
    let fixture = Fixture::checked(proxy.address(), quick());
    fixture.until_health(Health::Healthy).await;
    proxy.stall().await;
    fixture.until_health(Health::Unhealthy).await;
    let error = fixture.pool.backends.list()[0].last_error();
    assert!(error.contains("no answer to the health check within 500ms"), "{error}");
    proxy.heal().await.unwrap();
    fixture.until_health(Health::Healthy).await;
}

#[tokio::test]
async fn a_broken_stream_is_one_failed_check_and_is_opened_again() {
    let backend = Backend::start().await;
    let proxy = FaultProxy::start(backend.address).await.unwrap();
    let fixture = Fixture::checked(proxy.address(), grpc());
    for streams in 1..=3 {
        eventually(SOON, || async { backend.counts.of(|counts| &counts.watches) == streams }).await;
        fixture.until_health(Health::Healthy).await;
        proxy.cut().await;
    }
    eventually(SOON, || async { backend.counts.of(|counts| &counts.watches) == 4 }).await;
    assert_eq!(fixture.health(), Health::Healthy, "it takes two failed checks in a row");
}

#[tokio::test]
async fn a_backend_that_dies_is_out_before_the_next_interval_and_back_after_it_returned() {
    let backend = Backend::start().await;
    let fixture = Fixture::checked(backend.address, grpc());
    fixture.until_health(Health::Healthy).await;
    backend.kill().await;
    fixture.until_health(Health::Unhealthy).await;
    backend.serve().await;
    fixture.until_health(Health::Healthy).await;
}

#[tokio::test]
async fn a_backend_that_drained_itself_and_restarts_is_admitted_by_its_first_word() {
    let backend = Backend::start().await;
    let thresholds = Thresholds { healthy: 100, unhealthy: 1 };
    let fixture = Fixture::checked(backend.address, Settings { thresholds, ..grpc() });
    fixture.until_health(Health::Healthy).await;
    backend.set(ServingStatus::NotServing).await;
    fixture.until_health(Health::Unhealthy).await;
    backend.kill().await;
    backend.set(ServingStatus::Serving).await;
    backend.serve().await;
    fixture.until_health(Health::Healthy).await;
}

#[tokio::test]
async fn without_watch_it_is_asked_on_a_kept_connection() {
    let backend = Backend::without_watch().await;
    let fixture = Fixture::checked(backend.address, quick());
    fixture.until_health(Health::Healthy).await;
    backend.set(ServingStatus::NotServing).await;
    fixture.until_health(Health::Unhealthy).await;
    backend.set(ServingStatus::Serving).await;
    fixture.until_health(Health::Healthy).await;
    eventually(SOON, || async { backend.counts.of(|counts| &counts.checks) >= 5 }).await;
    assert_eq!(backend.counts.of(|counts| &counts.connections), 1);
    assert_eq!(backend.counts.of(|counts| &counts.watches), 1, "asked for once per connection");
}

#[tokio::test]
async fn a_suspected_backend_is_asked_on_a_new_connection_at_once() {
    let backend = Backend::start().await;
    let fixture = Fixture::checked(backend.address, grpc());
    fixture.until_health(Health::Healthy).await;
    let known = fixture.pool.backends.list()[0].clone();
    known.suspect();
    fixture.pool.changed();
    eventually(SOON, || async { backend.counts.of(|counts| &counts.connections) == 2 }).await;
    known.mark_down("a call could not connect", std::time::Instant::now());
    fixture.pool.changed();
    fixture.until_health(Health::Healthy).await;
    assert_eq!(backend.counts.of(|counts| &counts.connections), 3);
}

#[tokio::test]
async fn the_authority_is_the_backends_or_the_configured_one() {
    let backend = Backend::start().await;
    let fixture = Fixture::checked(backend.address, grpc());
    fixture.until_health(Health::Healthy).await;
    assert_eq!(backend.authority(), backend.address.to_string());
    let named = Settings { authority: Some("models.internal".to_owned()), ..grpc() };
    let fixture = Fixture::checked(backend.address, named);
    fixture.until_health(Health::Healthy).await;
    assert_eq!(backend.authority(), "models.internal");
}

#[tokio::test]
async fn no_task_and_no_connection_outlives_the_pool() {
    let backend = Backend::start().await;
    let proxy = FaultProxy::start(backend.address).await.unwrap();
    let fixture = Fixture::checked(proxy.address(), grpc());
    fixture.until_health(Health::Healthy).await;
    proxy.stall().await;
    let tasks = fixture.tasks.clone();
    drop(fixture);
    tasks.close();
    tokio::time::timeout(SOON, tasks.wait()).await.unwrap();
}
