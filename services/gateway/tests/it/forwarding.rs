//! Calls that succeed: bytes, headers and trailers come through, and calls are spread.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio_util::task::TaskTracker;
use weft_proto::gateway::v1::Health;
use weft_testkit::eventually;

use crate::{
    backend::TestBackend,
    client::{Client, http},
    gateway,
    health::health,
};

#[tokio::test]
async fn unary_calls_come_back_byte_for_byte_with_their_trailers() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let (data, trailers) = client.unary("Echo", b"\0\0\0\0\x03abc", &[]).await.unwrap();
    assert_eq!(data, "\0\0\0\0\x03abc");
    assert_eq!(trailers["x-trailer"], "kept");
    gateway.stop().await;
}

#[tokio::test]
async fn both_sides_of_a_stream_flow_as_they_come() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let (send, response) = client.open("Echo", &[]).await;
    let mut body = response.into_body();
    for i in 0..100_u32 {
        let message = Bytes::from(i.to_be_bytes().to_vec());
        send.send(message.clone()).await.unwrap();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            message,
            "before the next is sent"
        );
    }
    drop(send);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    gateway.stop().await;
}

/// h2 takes a hundred empty frames on a connection for a flood; the backends stay below that, but share a client.
#[tokio::test]
async fn empty_frames_of_many_backends_are_no_flood_to_the_client() {
    let backends = [TestBackend::start().await, TestBackend::start().await, TestBackend::start().await];
    let gateway = gateway(&backends.each_ref().map(|b| b.address), &[]).await;
    // Before all have been checked, the first to pass gets every call.
    eventually(Duration::from_secs(10), || async { health(&gateway, "echo").await == [Health::Healthy; 3] })
        .await;
    let client = Client::connect(gateway.address).await;
    for _ in 0..3 {
        assert_eq!(client.unary("SixtyEmpty", b"x", &[]).await.unwrap().0, "x");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_stream_comes_through_whole() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let (send, response) = client.open("Echo", &[]).await;
    let chunk = Bytes::from((0..=255_u8).cycle().take(100_000).collect::<Vec<_>>());
    let sending = TaskTracker::new().spawn({
        let chunk = chunk.clone();
        async move {
            for _ in 0..100 {
                send.send(chunk.clone()).await.unwrap();
            }
        }
    });
    let received = response.into_body().collect().await.unwrap().to_bytes();
    sending.await.unwrap();
    assert_eq!(received.len(), 10_000_000);
    assert!(received.chunks(100_000).all(|part| part == chunk));
    gateway.stop().await;
}

#[tokio::test]
async fn the_remaining_time_is_sent_on_and_never_grows() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[backend.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let (data, _) =
        client.unary("Headers", b"", &[("grpc-timeout", "1500m"), ("weft-user", "ada")]).await.unwrap();
    let text = String::from_utf8(data.to_vec()).unwrap();
    let timeout = text.split("\"grpc-timeout\": \"").nth(1).unwrap().split('"').next().unwrap();
    let left = weft_mesh::timeout::parse(timeout).unwrap();
    assert!(left <= Duration::from_millis(1500) && left > Duration::from_millis(500), "{timeout}");
    assert!(text.contains("\"weft-user\": \"ada\""), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn waiting_calls_are_spread_by_weight_and_counted_until_they_end() {
    let backends = [TestBackend::start().await, TestBackend::start().await, TestBackend::start().await];
    let gateway = gateway(&backends.each_ref().map(|b| b.address), &[]).await;
    crate::admin::set_weight(&gateway, backends[2].address, 2).await;
    let client = Client::connect(gateway.address).await;
    let tasks = TaskTracker::new();
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let client = client.clone();
            tokio_util::task::AbortOnDropHandle::new(
                tasks.spawn(async move { client.open("Hang", &[]).await }),
            )
        })
        .collect();
    let seen = || backends.each_ref().map(TestBackend::calls);
    eventually(Duration::from_secs(5), || async { seen().iter().sum::<u64>() == 40 }).await;
    assert_eq!(seen(), [10, 10, 20]);
    assert_eq!(crate::admin::in_flight(&gateway).await, [10, 10, 20]);
    drop(calls);
    let idle = || async { crate::admin::in_flight(&gateway).await == [0, 0, 0] };
    eventually(Duration::from_secs(5), idle).await;
    gateway.stop().await;
}

#[tokio::test]
async fn http_goes_to_http_backends_without_the_headers_of_one_hop() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&[], &[backend.address]).await;
    let request = "POST /web/Echo HTTP/1.1\r\nhost: chat.example\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let answer = http(gateway.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello"), "{answer}");
    let request = "GET /web/Headers HTTP/1.1\r\nhost: chat.example\r\nx-hop: 1\r\nx-end: 1\r\nconnection: close, x-hop\r\n\r\n";
    let answer = http(gateway.address, request).await;
    assert!(answer.contains("\"host\": \"chat.example\"") && answer.contains("x-end"), "{answer}");
    assert!(!answer.contains("x-hop"), "neither way, {answer}");
    assert!(
        http(gateway.address, "GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .contains("NO_ROUTE")
    );
    assert!(
        http(gateway.address, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .contains("serving")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_service_without_a_route_is_unimplemented() {
    let gateway = gateway(&[], &[]).await;
    let mut client = weft_proto::cache::v1::cache_service_client::CacheServiceClient::new(
        weft_mesh::Channel::direct(gateway.address),
    );
    let status = client.get_stats(weft_proto::cache::v1::GetStatsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert_eq!(status.message(), "no route for service weft.cache.v1.CacheService");
    gateway.stop().await;
}
