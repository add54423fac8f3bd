//! WebSockets: asked for over either HTTP, open for as long as something moves, counted until they end.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_util::task::TaskTracker;
use weft_gateway::{Config, HealthKind};
use weft_runtime::Running;
use weft_testkit::eventually;

use crate::{
    admin::{pools, stats},
    backend::TestBackend,
    client::http,
    config, started,
};

const ASK: &str = "GET /web/Socket?room=1 HTTP/1.1\r\nhost: chat.example\r\nconnection: keep-alive, Upgrade\r\n\
                   upgrade: WebSocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
                   x-forwarded-for: 10.0.0.1\r\n\r\n";

async fn before(backend: &TestBackend, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(&[], &[backend.address], HealthKind::Tcp);
    change(&mut config);
    started(config).await
}

/// Calls in flight to the backend.
async fn in_flight(gateway: &Running) -> u64 {
    pools(gateway).await[1].backends[0].in_flight
}

/// Opens one over HTTP/1.1: the answer's head, and the socket after it.
async fn open(gateway: &Running) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    (head, stream)
}

#[tokio::test]
async fn a_socket_over_http1_carries_bytes_both_ways_and_counts_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let backend = TestBackend::start().await;
    let gateway = before(&backend, |config| config.access_log = log.to_str().map(Into::into)).await;
    let (head, mut socket) = open(&gateway).await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(head.contains("sec-websocket-protocol: chat"), "{head}");
    let mut asked = String::new();
    socket.read_line(&mut asked).await.unwrap();
    for expected in [
        "\"upgrade\": \"websocket\"",
        "\"sec-websocket-key\": \"dGhlIHNhbXBsZSBub25jZQ==\"",
        "\"host\": \"chat.example\"",
        "\"x-forwarded-for\": \"127.0.0.1\"",
    ] {
        assert!(asked.contains(expected), "{expected} is not in {asked}");
    }
    for i in 0..100_u32 {
        socket.write_all(&i.to_be_bytes()).await.unwrap();
        assert_eq!(socket.read_u32().await.unwrap(), i, "before the next is sent");
    }
    assert_eq!((in_flight(&gateway).await, stats(&gateway).await.client_connections), (1, 1));
    socket.shutdown().await.unwrap();
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
    let over = || async { in_flight(&gateway).await == 0 && stats(&gateway).await.client_connections == 0 };
    eventually(Duration::from_secs(5), over).await;
    gateway.stop().await;
    let line: serde_json::Value = serde_json::from_str(std::fs::read_to_string(log).unwrap().trim()).unwrap();
    assert_eq!((line["status"].as_u64(), line["flags"].as_str()), (Some(101), Some("-")), "{line}");
    assert_eq!((line["bytes_received"].as_u64(), line["path"].as_str()), (Some(400), Some("/web/Socket")));
    assert_eq!(line["bytes_sent"].as_u64(), Some(400 + asked.len() as u64));
}

#[tokio::test]
async fn a_socket_over_http2_is_asked_for_over_http1() {
    let backend = TestBackend::start().await;
    let gateway = before(&backend, |_| {}).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    TaskTracker::new().spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let told = || async { sender.is_extended_connect_protocol_enabled() };
    eventually(Duration::from_secs(5), told).await;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://chat.example/web/Socket")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    for absent in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(absent), "{absent}");
    }
    let mut body = response.into_body();
    let asked = String::from_utf8(body.data().await.unwrap().unwrap().to_vec()).unwrap();
    for expected in [
        "\"sec-websocket-version\": \"13\"",
        "\"sec-websocket-key\"",
        "\"cookie\": \"a=1; b=2\"",
        "\"host\": \"chat.example\"",
    ] {
        assert!(asked.contains(expected), "{expected} is not in {asked}");
    }
    send.send_data(Bytes::from_static(b"hello"), false).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    assert_eq!(in_flight(&gateway).await, 1);
    // Reset by its client, it is over at once.
    send.send_reset(h2::Reason::CANCEL);
    drop(body);
    eventually(Duration::from_secs(5), || async { in_flight(&gateway).await == 0 }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_socket_on_which_nothing_moves_is_closed() {
    let backend = TestBackend::start().await;
    let idle = Duration::from_millis(300);
    let gateway = before(&backend, |config| config.routes[1].idle_timeout = idle).await;
    let (_, mut socket) = open(&gateway).await;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    eventually(Duration::from_secs(5), || async { in_flight(&gateway).await == 0 }).await;
    assert_eq!(pools(&gateway).await[1].backends[0].failures, 0, "silence is nobody's fault");
    gateway.stop().await;
}

#[tokio::test]
async fn sockets_survive_a_deadline_and_end_with_the_drain() {
    let backend = TestBackend::start().await;
    let gateway = before(&backend, |config| {
        config.routes[1].timeout = Some(Duration::from_millis(200));
        config.lifecycle.drain_timeout = Duration::from_millis(300);
        config.lifecycle.drain_delay = Duration::ZERO;
    })
    .await;
    let (_, mut socket) = open(&gateway).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    socket.write_all(b"still here\n").await.unwrap();
    let mut line = String::new();
    socket.read_line(&mut line).await.unwrap();
    line.clear();
    socket.read_line(&mut line).await.unwrap();
    assert_eq!(line, "still here\n");
    gateway.stop().await;
    assert_eq!(socket.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn sockets_count_against_the_limit_of_connections() {
    let backend = TestBackend::start().await;
    let gateway = before(&backend, |config| config.lifecycle.max_connections = 1).await;
    let (_, socket) = open(&gateway).await;
    let next = TaskTracker::new().spawn({
        let address = gateway.address;
        async move { http(address, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!next.is_finished(), "it waits for the place of the socket");
    drop(socket);
    assert!(next.await.unwrap().starts_with("HTTP/1.1 200"));
    gateway.stop().await;
}

#[tokio::test]
async fn no_other_protocol_is_asked_for_and_none_is_taken_unasked() {
    let backend = TestBackend::start().await;
    let gateway = before(&backend, |_| {}).await;
    let address = gateway.address;
    let h2c = "GET /web/Headers HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\n\
               http2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = http(address, h2c).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("h2c"), "{answer}");
    let unasked = "GET /web/Socket HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = http(address, unasked).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("BACKEND_FAILED"), "{answer}");
    let declined = ASK.replace("/web/Socket?room=1", "/web/Nothing").replace("keep-alive, ", "close, ");
    assert!(http(address, &declined).await.starts_with("HTTP/1.1 404"));
    gateway.stop().await;
}
