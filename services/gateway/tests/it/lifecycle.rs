//! How connections end: told in two steps, when they are old and when the gateway drains.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;
use tonic::codegen::Service as _;
use weft_gateway::{Config, Gateway, Listener, Pool, Route};
use weft_mesh::{Channel, error::CallError};
use weft_runtime::{
    Listeners, Running,
    config::{Admin, Lifecycle},
    start,
};

use crate::{
    backend::TestBackend,
    client::Client,
    frames::{DATA, END_STREAM, Frames, GOAWAY, HEADERS, PING},
};

const NEVER: Duration = Duration::from_secs(3600);

async fn gateway(backend: SocketAddr, lifecycle: Lifecycle) -> Running {
    let config = Config {
        workers: 1,
        listeners: vec![Listener::at("127.0.0.1:0")],
        admin: Admin::at("127.0.0.1:0"),
        lifecycle,
        pools: vec![Pool {
            name: "echo".into(),
            backends: vec![weft_gateway::Backend { address: backend.to_string(), weight: 1, tier: 0 }],
            ..Pool::default()
        }],
        routes: vec![Route::grpc("grpc.testing.*", "echo")],
        ..Config::default()
    };
    let listeners = Listeners::bind(&config).await.unwrap();
    start::<Gateway>(config, listeners).await.unwrap()
}

fn aging(age: Duration, grace: Duration) -> Lifecycle {
    Lifecycle { max_connection_age: age, max_connection_grace: grace, ..Lifecycle::default() }
}

/// GOAWAY comes twice, and what a client sends before it knows of the second is served.
async fn ends_in_two_steps(frames: &mut Frames, begin: impl FnOnce()) {
    frames.open(1, "Echo").await;
    frames.data(1, b"one", 0).await;
    frames.until(|frame| frame.kind == DATA && frame.stream == 1).await;
    begin();
    let first = frames.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!(first.last_stream(), (0x7fff_ffff, 0), "2^31-1, NO_ERROR");
    let ping = frames.until(|frame| frame.kind == PING).await;

    frames.open(3, "Echo").await;
    frames.data(3, b"three", END_STREAM).await;
    let answered = frames.until(|frame| frame.stream == 3 && frame.is_last()).await;
    assert_eq!(answered.kind, HEADERS, "its trailers");

    frames.pong(&ping).await;
    let second = frames.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!(second.last_stream(), (3, 0), "the last that was taken");
    frames.data(1, b"more", END_STREAM).await;
    assert_eq!(frames.until(|frame| frame.kind == DATA && frame.stream == 1).await.payload, b"more");
    frames.until(|frame| frame.stream == 1 && frame.is_last()).await;
    assert!(frames.next().await.unwrap().is_none(), "closed when the last stream has ended");
}

#[tokio::test]
async fn a_drain_says_goaway_in_two_steps() {
    let backend = TestBackend::start().await;
    let gateway = gateway(backend.address, Lifecycle::default()).await;
    let mut frames = Frames::connect(gateway.address).await.unwrap();
    let tasks = TaskTracker::new();
    ends_in_two_steps(&mut frames, || drop(tasks.spawn(gateway.stop()))).await;
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn an_old_connection_says_goaway_in_two_steps() {
    let backend = TestBackend::start().await;
    let gateway = gateway(backend.address, aging(Duration::from_millis(300), NEVER)).await;
    let mut frames = Frames::connect(gateway.address).await.unwrap();
    ends_in_two_steps(&mut frames, || ()).await;
    gateway.stop().await;
}

async fn ended_by_status(client: &Client, begin: impl AsyncFnOnce()) {
    let (send, response) = client.open("Echo", &[]).await;
    let mut body = response.into_body();
    send.send(Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    let waiting = async {
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        CallError::from(tonic::Status::from_header_map(&trailers).unwrap())
    };
    let (error, ()) = tokio::join!(waiting, begin());
    assert_eq!((error.code, error.reason.as_str()), (tonic::Code::Unavailable, "CONNECTION_ENDED"));
}

#[tokio::test]
async fn streams_that_outlive_their_connection_are_ended_with_a_status() {
    let backend = TestBackend::start().await;
    let gateway = gateway(backend.address, aging(Duration::from_millis(50), Duration::from_millis(50))).await;
    let client = Client::connect(gateway.address).await;
    ended_by_status(&client, async || ()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn streams_that_outlive_a_drain_are_ended_with_a_status() {
    let backend = TestBackend::start().await;
    let lifecycle = Lifecycle { drain_timeout: Duration::from_millis(50), ..Lifecycle::default() };
    let gateway = gateway(backend.address, lifecycle).await;
    let client = Client::connect(gateway.address).await;
    ended_by_status(&client, async || gateway.stop().await).await;
}

#[tokio::test]
async fn an_old_http1_connection_is_closed_after_an_answer() {
    let backend = TestBackend::start().await;
    let gateway = gateway(backend.address, aging(Duration::from_millis(50), NEVER)).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut received = Vec::new();
    // Each request is answered whole, also the one that meets the end; after it there is nothing.
    while !String::from_utf8_lossy(&received).contains("connection: close") {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        received.clear();
        while !received.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "closed without a word");
        }
    }
    assert_eq!(stream.read_buf(&mut received).await.unwrap(), 0);
    gateway.stop().await;
}

/// Non-idempotent calls over connections that live for some milliseconds, until many have died.
#[tokio::test]
async fn no_call_fails_however_young_connections_die() {
    let backend = TestBackend::start().await;
    let gateway = gateway(backend.address, aging(Duration::from_millis(5), NEVER)).await;
    let (address, made) = counting(gateway.address).await;
    let channel = Channel::direct(address);
    let tasks = TaskTracker::new();
    let client = |_| {
        let (mut channel, made) = (channel.clone(), Arc::clone(&made));
        tasks.spawn(async move {
            while made.load(Ordering::Relaxed) < 50 {
                echo(&mut channel).await;
            }
        })
    };
    for client in (0..4).map(client).collect::<Vec<_>>() {
        client.await.unwrap();
    }
    gateway.stop().await;
}

/// An address that leads to another, and how many connections were made over it.
async fn counting(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, made) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (counted, tasks) = (Arc::clone(&made), TaskTracker::new());
    TaskTracker::new().spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, made)
}

async fn echo(channel: &mut Channel) {
    let body = http_body_util::Full::new(Bytes::from_static(b"\0\0\0\0\x01x"));
    let request = Request::post("http://gateway/grpc.testing.TestService/Echo")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let response = channel.call(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
}
