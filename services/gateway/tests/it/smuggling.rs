//! Requests that two servers could read differently: refused, or passed on in a way that only one reading fits.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use weft_gateway::HealthKind;
use weft_runtime::Running;

use crate::{config, started};

/// How long a connection may stay silent before it is taken to have nothing more to say.
const QUIET: Duration = Duration::from_millis(300);

/// A backend that takes every byte as it comes, and answers once for each head that it sees.
struct Wire {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self { address: listener.local_addr().unwrap(), received: Arc::default() };
        let received = Arc::clone(&wire.received);
        TaskTracker::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                TaskTracker::new().spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                        received.lock().unwrap().extend_from_slice(&bytes[..read]);
                        let heads = bytes[..read].windows(11).filter(|end| *end == b" HTTP/1.1\r\n").count();
                        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".repeat(heads);
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        wire
    }

    /// What has come since the last look.
    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.received.lock().unwrap())).into_owned()
    }
}

async fn before(wire: &Wire) -> Running {
    let mut config = config(&[], &[wire.address], HealthKind::None);
    config.routes[1].path_prefix = Some("/".into());
    started(config).await
}

/// Sends bytes and reads what comes back until it is quiet.
async fn say(gateway: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(read @ 1..)) = timeout(QUIET, stream.read(&mut part)).await {
        answer.extend_from_slice(&part[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// How many requests a text holds, going by their first lines.
fn requests(text: &str) -> usize {
    text.lines().filter(|line| line.ends_with(" HTTP/1.1")).count()
}

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_nothing_of_it_reaches_a_backend() {
    let wire = Wire::start().await;
    let gateway = before(&wire).await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    for (name, head, body) in [
        ("two lengths", "content-length: 5\r\ncontent-length: 6", "hello!"),
        ("a list of lengths", "content-length: 5, 6", "hello!"),
        ("a length with a sign", "content-length: +5", "hello"),
        ("a length in another base", "content-length: 0x5", "hello"),
        ("an endless length", "content-length: 99999999999999999999999", inner),
        ("an unknown coding", "transfer-encoding: xchunked", inner),
        ("chunked not at the end", "transfer-encoding: chunked, identity", inner),
        ("a space before the colon", "transfer-encoding : chunked", "0\r\n\r\n"),
        ("a folded line", "x-a: b\r\n transfer-encoding: chunked", "0\r\n\r\n"),
        ("a name that is none", "x a: b", ""),
        ("no name", ": b", ""),
        ("a zero byte", "x-a: b\0c", ""),
        ("a bare return", "x-a: b\rtransfer-encoding: chunked", ""),
        ("two hosts", "host: y", ""),
    ] {
        let answer =
            say(&gateway, format!("POST / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: {answer}");
        assert_eq!(wire.take(), "", "{name}");
    }
    for line in
        ["GET / HTTP/1.1 x", "GET  / HTTP/1.1", "G(T / HTTP/1.1", "GET / HTTP/3.7", "GET /\t HTTP/1.1", "GET"]
    {
        let answer = say(&gateway, format!("{line}\r\nhost: x\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{line}: {answer}");
        assert_eq!(wire.take(), "", "{line}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_has_one_reading_is_passed_on_with_one() {
    let wire = Wire::start().await;
    let gateway = before(&wire).await;
    let inner = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    // RFC 9112 §6.3: chunked counts, and the length must go. The rest of the bytes would be the next request to one who
    // counts by the length, and so the connection ends.
    let both = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
    );
    say(&gateway, both.as_bytes()).await;
    let passed = wire.take();
    assert!(requests(&passed) <= 1 && !passed.contains("/smuggled"), "{passed}");
    let lower = passed.to_ascii_lowercase();
    let framings = lower.matches("content-length:").count() + lower.matches("transfer-encoding:").count();
    assert!(framings <= requests(&passed), "{passed}");
    for (head, body) in [
        ("transfer-encoding: Chunked", "5;x=y\r\nhello\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\ntrailer: x\r\n\r\n"),
        ("content-length: 5", "hello"),
        ("content-length: 5\r\nconnection: content-length", "hello"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\n{head}\r\nconnection: close\r\n\r\n{body}");
        let answer = say(&gateway, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{head}: {answer}");
        let passed = wire.take();
        assert_eq!(requests(&passed), 1, "{head}: {passed}");
        let lower = passed.to_ascii_lowercase();
        let framings = lower.matches("content-length:").count() + lower.matches("transfer-encoding:").count();
        assert_eq!(framings, 1, "{head}: {passed}");
        assert!(passed.contains("hello") && !lower.contains("trailer: x\r\nhost"), "{head}: {passed}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_chunk_that_cannot_be_counted_ends_its_request() {
    let wire = Wire::start().await;
    let gateway = before(&wire).await;
    for chunk in [
        "fffffffffffffffff\r\n",
        "-1\r\n",
        "5\rhello\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        " \r\n",
        "0x5\r\nhello\r\n",
    ] {
        let head = "POST /chunks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer =
            say(&gateway, format!("{head}{chunk}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
        let passed = wire.take();
        assert!(!passed.contains("/smuggled HTTP/1.1\r\n"), "{chunk:?}: {passed} {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{chunk:?}: {answer}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn http2_says_nothing_that_http1_would_read_as_more() {
    let wire = Wire::start().await;
    let gateway = before(&wire).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    TaskTracker::new().spawn(connection);
    // A length that is not that of the data: the stream ends, and what the backend has is no whole request.
    let request = Request::post("http://x/").header("content-length", "10").body(()).unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    let _ = send.send_data(Bytes::from_static(b"hello"), true);
    let answered = timeout(Duration::from_secs(5), response).await.expect("it ends");
    assert!(answered.is_err() || !answered.unwrap().status().is_success());
    tokio::time::sleep(QUIET).await;
    let passed = wire.take();
    assert!(!passed.contains("\r\n\r\nhello\r\n") && requests(&passed) <= 1, "{passed}");
    gateway.stop().await;
}
