//! What is refused or ended early, so that the rest is served.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use weft_gateway::{HealthKind, Priority, RateLimit, Route};
use weft_mesh::error::{CallError, ErrorKind};
use weft_proto::gateway::v1::Ejection;
use weft_testkit::eventually;

use crate::{
    admin::{in_flight, pools},
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

#[tokio::test]
async fn calls_wait_for_a_backend_with_room_and_the_line_is_short() {
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[], HealthKind::Tcp);
    (config.pools[0].max_in_flight, config.pools[0].max_waiting) = (1, 4);
    config.pools[0].max_wait = Duration::from_secs(60);
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    let (sender, held) = client.open("Echo", &[]).await;
    let line = TaskTracker::new();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            line.spawn(async move { client.unary("Echo", b"x", &[]).await })
        })
        .collect();
    eventually(Duration::from_secs(5), || async { pools(&gateway).await[0].waiting == 4 }).await;
    let error = client.unary("Echo", b"x", &[]).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::ResourceExhausted, "OVERLOADED"));
    assert_eq!(backend.calls(), 1);
    drop((sender, held));
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_eq!(pools(&gateway).await[0].waiting, 0);
    gateway.stop().await;
}

/// A single failure would eject: none of what a client breaks off, sends too much of, or does not wait for is one.
#[tokio::test]
async fn a_backend_is_not_blamed_for_what_clients_do_not_finish() {
    static LARGE: [u8; 5000] = [b'x'; 5000];
    let backends = [TestBackend::start().await, TestBackend::start().await];
    let mut config = config(&backends.each_ref().map(|backend| backend.address), &[], HealthKind::Tcp);
    config.pools[0].outlier.consecutive_failures = 1;
    config.overload.max_request_bytes = 4000;
    config.routes[0].idempotent = true;
    config.routes[0].idle_timeout = Duration::from_millis(100);
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    for _ in 0..2 {
        let error = client.unary("Hang", &LARGE, &[]).await.unwrap_err();
        assert_eq!(error.reason, "REQUEST_TOO_LARGE");
        let error = client.unary("HalfThenHang", b"x", &[]).await.unwrap_err();
        assert_eq!(error.reason, "IDLE");
        // It sends nothing, and never says that it has nothing more to send.
        let (_sender, response) = client.open("Hang", &[]).await;
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(CallError::from(status).reason, "IDLE");
    }
    let pool = pools(&gateway).await.remove(0);
    assert_eq!(pool.backends.iter().map(|backend| backend.failures).sum::<u64>(), 0, "{pool:?}");
    assert!(pool.backends.iter().all(|backend| backend.ejection() == Ejection::None), "{pool:?}");
    assert_eq!(pool.backends.iter().map(|backend| backend.calls).sum::<u64>(), 6, "nothing was sent twice");
    gateway.stop().await;
}

/// hyper asks a body for nothing while its client takes nothing.
#[tokio::test]
async fn a_call_that_nobody_reads_ends_in_time() {
    let backend = TestBackend::start().await;
    let gateway = started(config(&[backend.address], &[], HealthKind::Tcp)).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(0);
    let (mut sender, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    TaskTracker::new().spawn(connection);
    let request = Request::post("http://gateway/grpc.testing.TestService/HalfThenHang")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "500m");
    let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(in_flight(&gateway).await, [1]);
    eventually(Duration::from_secs(5), || async { in_flight(&gateway).await == [0] }).await;
    drop(response);
    gateway.stop().await;
}

#[tokio::test]
async fn more_calls_than_a_rate_allows_are_refused_with_the_time_of_the_next() {
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[backend.address], HealthKind::Tcp);
    let hourly = |key: &str| RateLimit {
        requests: 2,
        per: Duration::from_secs(3600),
        key: key.into(),
        ..RateLimit::default()
    };
    config.routes[0].rate_limits = vec![hourly("header:x-user")];
    config.routes[1].rate_limits = vec![hourly("address")];
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    for user in ["ada", "bob"] {
        for _ in 0..2 {
            client.unary("Echo", b"x", &[("x-user", user)]).await.unwrap();
        }
        let error = client.unary("Echo", b"x", &[("x-user", user)]).await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::ResourceExhausted, "RATE_LIMITED"));
        let wait = error.retry_after.unwrap();
        assert!((1790..=1800).contains(&wait.as_secs()), "{wait:?}");
    }
    client.unary("Echo", b"x", &[]).await.unwrap();
    assert_eq!(backend.calls(), 5);

    let get = "GET /web/Get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = [http(gateway.address, get).await, http(gateway.address, get).await];
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
    assert!(answers[0].contains("ratelimit-policy: \"default\";q=2;w=3600"), "{}", answers[0]);
    assert!(answers[0].contains("ratelimit: \"default\";r=1") && answers[1].contains("\"default\";r=0"));
    let refused = http(gateway.address, get).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("RATE_LIMITED"), "{refused}");
    assert!(refused.contains("retry-after: 1800") || refused.contains("retry-after: 179"), "{refused}");
    gateway.stop().await;
}
