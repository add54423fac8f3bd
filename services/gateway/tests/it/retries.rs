//! What is sent again, and what never is.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, MethodOptions, ServiceDescriptorProto,
    method_options::IdempotencyLevel,
};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::task::TaskTracker;
use weft_gateway::{Config, HealthKind, Route};
use weft_mesh::error::ErrorKind;
use weft_proto::gateway::v1::Health;

use crate::{backend::TestBackend, client::Client, config, started};

/// Two backends, each of which fails its first call, behind a route that says so.
async fn two(change: impl FnOnce(&mut Config)) -> ([TestBackend; 2], weft_runtime::Running, Client) {
    let backends = [TestBackend::start().await, TestBackend::start().await];
    let mut config = config(&backends.each_ref().map(|b| b.address), &[], HealthKind::Tcp);
    change(&mut config);
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    (backends, gateway, client)
}

fn calls(backends: &[TestBackend]) -> u64 {
    backends.iter().map(TestBackend::calls).sum()
}

#[tokio::test]
async fn a_failure_in_the_trailers_is_repeated_when_the_route_says_idempotent() {
    let (backends, gateway, client) = two(|config| config.routes[0].idempotent = true).await;
    let (headers, _) = client.unary("FailFirst", b"x", &[]).await.unwrap();
    // Each backend fails once, so it is the third attempt that succeeds, and it says so.
    assert_eq!(calls(&backends), 3);
    let headers = String::from_utf8_lossy(&headers).into_owned();
    assert!(headers.contains("\"grpc-previous-rpc-attempts\": \"2\""), "{headers}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_may_have_been_executed_is_not_repeated_by_default() {
    let (backends, gateway, client) = two(|_| {}).await;
    let error = client.unary("FailFirst", b"x", &[]).await.unwrap_err();
    assert_eq!((error.kind, calls(&backends)), (ErrorKind::Unavailable, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_descriptor_set_says_which_methods_may_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = contract(folder.path(), "FailFirst");
    let (backends, gateway, client) = two(|config| config.descriptor_sets = vec![path]).await;
    client.unary("FailFirst", b"x", &[]).await.unwrap();
    assert_eq!(calls(&backends), 3);
    gateway.stop().await;
}

/// A message alone is no answer: whoever waits for its trailers has not seen it yet.
#[tokio::test]
async fn an_answer_that_breaks_off_before_its_trailers_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = contract(folder.path(), "Echo");
    let (backend, breaking) = (TestBackend::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut config = config(&[breaking.local_addr().unwrap(), backend.address], &[], HealthKind::Tcp);
    config.descriptor_sets = vec![path];
    let broken = Arc::new(AtomicU64::new(0));
    TaskTracker::new().spawn(break_off(breaking, Arc::clone(&broken)));
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    for _ in 0..20 {
        let (data, _) = client.unary("Echo", b"whole", &[]).await.unwrap();
        assert_eq!(data, "whole");
    }
    assert!(broken.load(Ordering::Relaxed) > 0);
    gateway.stop().await;
}

/// Answers every call with headers and a message, and a reset instead of trailers.
async fn break_off(listener: TcpListener, broken: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let broken = Arc::clone(&broken);
        TaskTracker::new().spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let mut open = Vec::new();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let headers = http::Response::builder().header("content-type", "application/grpc");
                let mut answer = respond.send_response(headers.body(()).unwrap(), false).unwrap();
                answer.send_data(Bytes::from_static(b"half"), false).unwrap();
                broken.fetch_add(1, Ordering::Relaxed);
                open.push(TaskTracker::new().spawn(async move {
                    // A reset takes back what has not been sent yet.
                    sleep(Duration::from_millis(50)).await;
                    answer.send_reset(h2::Reason::INTERNAL_ERROR);
                }));
            }
        });
    }
}

/// Writes a contract whose one method may be repeated.
fn contract(folder: &Path, method: &str) -> String {
    let level = Some(IdempotencyLevel::Idempotent.into());
    let options = MethodOptions { idempotency_level: level, ..MethodOptions::default() };
    let method =
        MethodDescriptorProto { name: Some(method.into()), options: Some(options), ..Default::default() };
    let service = ServiceDescriptorProto {
        name: Some("TestService".into()),
        method: vec![method],
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        package: Some("grpc.testing".into()),
        service: vec![service],
        ..FileDescriptorProto::default()
    };
    let path = folder.join("testing.binpb");
    std::fs::write(&path, FileDescriptorSet { file: vec![file] }.encode_to_vec()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_backend_that_asks_for_no_repetition_gets_none() {
    let (backends, gateway, client) = two(|config| config.routes[0].idempotent = true).await;
    let error = client.unary("Pushback", b"x", &[]).await.unwrap_err();
    assert_eq!((error.kind, calls(&backends)), (ErrorKind::Unavailable, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_backend_that_hangs_costs_an_idempotent_call_no_more_than_a_try() {
    let (backends, gateway, client) = two(|config| {
        config.routes[0].idempotent = true;
        config.pools[0].retry.per_try_timeout = Duration::from_millis(100);
    })
    .await;
    let deadline = [("grpc-timeout", "20S")];
    // It hangs on either, so each attempt ends after its time, and the call with the last.
    let began = Instant::now();
    let error = client.unary("Hang", b"x", &deadline).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "FIRST_BYTE_TIMEOUT"));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(calls(&backends), 3, "three attempts");
    gateway.stop().await;
}

#[tokio::test]
async fn what_may_not_be_repeated_is_not_cut_off_by_the_time_of_a_try() {
    let (backends, gateway, client) =
        two(|config| config.pools[0].retry.per_try_timeout = Duration::from_millis(20)).await;
    let error = client.unary("Hang", b"x", &[("grpc-timeout", "200m")]).await.unwrap_err();
    assert_eq!((error.kind, calls(&backends)), (ErrorKind::DeadlineExceeded, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_dead_backend_is_left_at_the_first_call_without_a_check() {
    // The first check admits, and the next one is an hour away: only calls can notice.
    let (backends, gateway, client) = two(|config| {
        config.pools[0].health.interval = Duration::from_secs(3600);
    })
    .await;
    let healthy = || async { crate::health::health(&gateway, "echo").await == [Health::Healthy; 2] };
    weft_testkit::eventually(Duration::from_secs(5), healthy).await;
    backends[0].kill().await;
    for _ in 0..100 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    assert_eq!(crate::health::health(&gateway, "echo").await[0], Health::Unhealthy);
    assert_eq!(calls(&backends), 100);
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_bounds_the_time_a_client_may_ask_for() {
    let (_backends, gateway, client) = two(|config| {
        let limited = Route { max_timeout: Some(Duration::from_millis(300)), ..config.routes[0].clone() };
        config.routes[0] = limited;
    })
    .await;
    let (headers, _) = client.unary("Headers", b"x", &[("grpc-timeout", "10S")]).await.unwrap();
    let headers = String::from_utf8_lossy(&headers).into_owned();
    let sent = headers.split("\"grpc-timeout\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(weft_mesh::timeout::parse(sent).unwrap() <= Duration::from_millis(300), "{sent}");
    let error = client.unary("Hang", b"x", &[("grpc-timeout", "1H")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    gateway.stop().await;
}
