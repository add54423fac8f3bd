//! What is refused or ended early, so that the rest is served.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio_util::task::TaskTracker;
use weft_gateway::{HealthKind, Priority, Route};
use weft_mesh::error::{CallError, ErrorKind};
use weft_testkit::eventually;

use crate::{
    backend::TestBackend,
    client::{Client, http},
    config, started,
};

#[tokio::test]
async fn batch_calls_are_refused_while_interactive_ones_find_room() {
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[], HealthKind::Tcp);
    config.lifecycle.max_in_flight = 4;
    config.overload.batch_percent = 50;
    config
        .routes
        .push(Route { priority: Priority::Batch, ..Route::grpc("grpc.testing.TestService", "echo") });
    config.routes[0] = Route::grpc("grpc.testing.Interactive", "echo");
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    let waiting = TaskTracker::new();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            waiting.spawn(async move { client.open("Hang", &[]).await })
        })
        .collect();
    let both = || async { backend.calls() == 2 };
    eventually(Duration::from_secs(5), both).await;
    let error = client.unary("Echo", b"x", &[]).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::ResourceExhausted, "OVERLOADED"));
    assert!(error.retry_after.is_some());
    client.unary_of("grpc.testing.Interactive/Echo", b"x", &[]).await.unwrap();
    held.into_iter().for_each(|call| call.abort());
    let room = || async { client.unary("Echo", b"x", &[]).await.is_ok() };
    eventually(Duration::from_secs(5), room).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_has_a_limit_of_its_own() {
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[], HealthKind::Tcp);
    config.routes[0].max_in_flight = 1;
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    let held = client.open("HalfThenHang", &[]).await;
    let error = client.unary("Echo", b"x", &[]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    drop(held);
    let room = || async { client.unary("Echo", b"x", &[]).await.is_ok() };
    eventually(Duration::from_secs(5), room).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_on_which_nothing_moves_is_ended_and_one_that_moves_is_not() {
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[], HealthKind::Tcp);
    config.routes[0].idle_timeout = Duration::from_millis(400);
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    let (sender, response) = client.open("Echo", &[]).await;
    let mut moving = response.into_body();
    // Its silent neighbour is ended while this one gets a frame now and then.
    let silent = client.unary("HalfThenHang", b"x", &[]);
    tokio::pin!(silent);
    let error: CallError = loop {
        tokio::select! {
            ended = &mut silent => break ended.unwrap_err(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                sender.send(Bytes::from_static(b"tick")).await.unwrap();
                assert_eq!(moving.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
            }
        }
    };
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "IDLE"));
    sender.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(moving.frame().await.unwrap().unwrap().into_data().unwrap(), "still here");
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_has_stayed_for_long_ends_and_nobody_is_blamed() {
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[], HealthKind::Tcp);
    config.pools[0].max_stream_age = Duration::from_millis(300);
    config.pools[0].outlier.consecutive_failures = 1;
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    let (sender, response) = client.open("Echo", &[]).await;
    let mut body = response.into_body();
    let began = Instant::now();
    let trailers = loop {
        // It moves all the time: this is not idleness.
        let _ = sender.send(Bytes::from_static(b"tick")).await;
        match body.frame().await.unwrap().unwrap().into_trailers() {
            Ok(trailers) => break trailers,
            Err(frame) => assert_eq!(frame.into_data().unwrap(), "tick"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(began.elapsed() >= Duration::from_millis(270), "{:?}", began.elapsed());
    let error = CallError::from(tonic::Status::from_header_map(&trailers).unwrap());
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "STREAM_AGE"));
    client.unary("Echo", b"x", &[]).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_in_the_callers_protocol() {
    static LARGE: [u8; 5000] = [b'x'; 5000];
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[backend.address], HealthKind::Tcp);
    config.overload.max_request_bytes = 4000;
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    let error = client.unary("Hang", &LARGE, &[]).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::ResourceExhausted, "REQUEST_TOO_LARGE"));
    client.unary("Echo", &LARGE[..4000], &[]).await.unwrap();
    let head = format!(
        "POST /web/Hang HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        LARGE.len()
    );
    let answer = http(gateway.address, &format!("{head}{}", String::from_utf8_lossy(&LARGE))).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("4000"), "{answer}");
    gateway.stop().await;
}
