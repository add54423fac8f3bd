//! Backends that die, refuse, hang or never were there.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use weft_mesh::error::ErrorKind;
use weft_proto::gateway::v1::Health;
use weft_testkit::eventually;

use crate::{
    backend::TestBackend,
    client::{Client, http},
    gateway,
};

#[tokio::test]
async fn a_killed_backend_costs_no_new_call_and_is_taken_back() {
    let backends = [TestBackend::start().await, TestBackend::start().await];
    let gateway = gateway(&backends.each_ref().map(|b| b.address), &[]).await;
    let client = Client::connect(gateway.address).await;
    for _ in 0..10 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    backends[0].kill().await;
    let noticed = || async { crate::health::health(&gateway, "echo").await[0] == Health::Unhealthy };
    eventually(Duration::from_secs(5), noticed).await;
    for _ in 0..100 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    let again = TestBackend::start_at(backends[0].address).await;
    let served = || async {
        client.unary("Echo", b"x", &[]).await.unwrap();
        again.calls() > 0
    };
    eventually(Duration::from_secs(10), served).await;
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_healthy_backend_the_reason_has_its_name() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gateway = gateway(&[gone], &[gone]).await;
    let client = Client::connect(gateway.address).await;
    let error = client.unary("Echo", b"x", &[]).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "NO_HEALTHY_BACKENDS"));
    assert!(error.retry_after.is_some());
    let answer = http(gateway.address, "GET /web/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("NO_HEALTHY_BACKENDS"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call_at_the_backend() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let call = TaskTracker::new().spawn(async move { client.open("Hang", &[]).await });
    let begun = || async { backend.calls() == 1 };
    eventually(Duration::from_secs(5), begun).await;
    call.abort();
    let cancelled = || async { backend.cancelled.load(std::sync::atomic::Ordering::Relaxed) == 1 };
    eventually(Duration::from_secs(5), cancelled).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_hanging_backend_ends_at_the_deadline_and_is_told() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let error = client.unary("Hang", b"x", &[("grpc-timeout", "100m")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    let cancelled = || async { backend.cancelled.load(std::sync::atomic::Ordering::Relaxed) == 1 };
    eventually(Duration::from_secs(5), cancelled).await;
    let error = client.unary("HalfThenHang", b"x", &[("grpc-timeout", "100m")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded, "in the trailers of a stream that has begun");
    let error = client.unary("Echo", b"x", &[("grpc-timeout", "soon")]).await.unwrap_err();
    assert_eq!((error.kind, error.fields[0].field.as_str()), (ErrorKind::InvalidArgument, "grpc-timeout"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_cut_off_half_way_ends_unavailable_and_is_not_repeated() {
    let backends = [TestBackend::start().await, TestBackend::start().await];
    let gateway = gateway(&backends.each_ref().map(|b| b.address), &[]).await;
    let client = Client::connect(gateway.address).await;
    let (_send, response) = client.open("HalfThenHang", &[]).await;
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), Bytes::from_static(b"half"));
    let serving = backends.iter().position(|backend| backend.calls() == 1).unwrap();
    backends[serving].kill().await;
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "14");
    assert_eq!(backends[1 - serving].calls(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_stream_goes_to_the_next_backend_with_its_request() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = refusing.local_addr().unwrap();
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = refusing.accept().await {
            TaskTracker::new().spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
            });
        }
    });
    let backend = TestBackend::start().await;
    let gateway = gateway(&[address, backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    for sent in 1..=20 {
        let (data, _) = client.unary("Echo", b"the whole request", &[]).await.unwrap();
        assert_eq!(data, "the whole request");
        assert_eq!(backend.calls(), sent);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn calls_in_flight_finish_when_the_gateway_stops() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let (send, response) = client.open("Echo", &[]).await;
    let stopping = TaskTracker::new().spawn(gateway.stop());
    let mut body = response.into_body();
    for _ in 0..10 {
        send.send(Bytes::from_static(b"still here")).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "still here");
    }
    drop(send);
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    stopping.await.unwrap();
}
