//! The fault proxy in front of an echo server.
use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use weft_testkit::{FaultProxy, eventually};

use crate::SOON;

/// Returns every byte, and ends each connection when its client does.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tasks.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

async fn start() -> (FaultProxy, TcpStream) {
    let proxy = FaultProxy::start(echo_server().await).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

async fn exchange(client: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    client.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

#[tokio::test]
async fn forwards_both_ways_and_passes_the_end_on() {
    let (_proxy, mut client) = start().await;
    let text = vec![7; 300_000];
    let (mut read, mut write) = client.split();
    let sent = async {
        write.write_all(&text).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let (_, received) = tokio::join!(sent, read.read_to_end(&mut answer));
    received.unwrap();
    assert_eq!(answer, text);
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_lets_new_connections_through() {
    let (proxy, mut client) = start().await;
    exchange(&mut client, b"before").await.unwrap();
    assert_eq!(proxy.connections(), 1);
    proxy.cut().await;
    assert_eq!(proxy.connections(), 0);
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut next, b"after").await.unwrap();
}

#[tokio::test]
async fn refuses_until_it_heals() {
    let (proxy, mut client) = start().await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.refuse().await;
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.heal().await.unwrap();
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    exchange(&mut next, b"after").await.unwrap();
}

#[tokio::test]
async fn a_stall_holds_bytes_back_and_loses_none() {
    let (proxy, mut client) = start().await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.stall().await;
    client.write_all(b"during").await.unwrap();
    let mut answer = [0; 6];
    let silent = timeout(Duration::from_millis(100), client.read_exact(&mut answer)).await;
    assert!(silent.is_err(), "{answer:?} came through");
    proxy.heal().await.unwrap();
    timeout(SOON, client.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"during");
}

#[tokio::test]
async fn latency_counts_once_each_way() {
    let (proxy, mut client) = start().await;
    proxy.delay(Duration::from_millis(40)).await;
    let start = Instant::now();
    exchange(&mut client, b"slow").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_dead_upstream_resets_the_client() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], weft_testkit::free_port().unwrap()));
    let proxy = FaultProxy::start(nobody).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn ends_when_it_is_dropped() {
    let (proxy, mut client) = start().await;
    exchange(&mut client, b"before").await.unwrap();
    let address = proxy.address();
    drop(proxy);
    eventually(SOON, || async { TcpStream::connect(address).await.is_err() }).await;
    assert!(client.read(&mut [0]).await.is_err());
}

#[tokio::test]
async fn a_url_leads_through_it() {
    let upstream = SocketAddr::from(([127, 0, 0, 1], 20_001));
    let proxy = FaultProxy::start(upstream).await.unwrap();
    let url = proxy.url("amqp://guest:guest@127.0.0.1:20001/%2f");
    assert_eq!(url, format!("amqp://guest:guest@{}/%2f", proxy.address()));
}

#[tokio::test]
#[should_panic(expected = "does not lead to 127.0.0.1:20001")]
async fn a_url_that_leads_elsewhere_is_refused() {
    let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], 20_001))).await.unwrap();
    proxy.url("redis://127.0.0.1:6379");
}

#[tokio::test]
async fn beyond_a_parted_network_nobody_answers_until_it_heals() {
    let (proxy, mut client) = start().await;
    exchange(&mut client, b"before").await.unwrap();
    proxy.part().await.unwrap();
    let nothing = timeout(Duration::from_millis(300), exchange(&mut client, b"during"));
    assert!(nothing.await.is_err(), "no byte passes");
    let connecting = timeout(Duration::from_millis(300), TcpStream::connect(proxy.address()));
    assert!(connecting.await.is_err(), "neither accepted nor refused");
    proxy.heal().await.unwrap();
    let mut other = timeout(SOON, TcpStream::connect(proxy.address())).await.unwrap().unwrap();
    exchange(&mut other, b"after").await.unwrap();
}
