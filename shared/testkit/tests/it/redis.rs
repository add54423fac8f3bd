//! A private Redis, by way of its client.
use redis::AsyncCommands as _;
use tokio::{net::TcpStream, time::timeout};
use weft_testkit::{Redis, eventually_ok};

use crate::{A_WHILE, SOON};

async fn connect(server: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn starts_empty_on_a_port_of_its_own_and_forgets_at_a_restart() {
    let (one, other) = tokio::try_join!(Redis::start(), Redis::start()).unwrap();
    assert_ne!(one.address(), other.address());
    let _: () = connect(&one).await.set("key", "value").await.unwrap();
    assert_eq!(connect(&one).await.get::<_, Option<String>>("key").await.unwrap().as_deref(), Some("value"));
    assert_eq!(connect(&other).await.get::<_, Option<String>>("key").await.unwrap(), None);
    one.restart().await.unwrap();
    assert_eq!(connect(&one).await.get::<_, Option<String>>("key").await.unwrap(), None);
}

#[tokio::test]
async fn a_persistent_one_keeps_every_write_through_a_kill() {
    let server = Redis::persistent().await.unwrap();
    let mut connection = connect(&server).await;
    for number in 0..100 {
        let _: () = connection.set(number, number).await.unwrap();
    }
    server.stop().await.unwrap();
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(connect(&server).await.get::<_, u32>(99).await.unwrap(), 99);
}

#[tokio::test]
async fn a_paused_one_accepts_and_stays_silent() {
    let server = Redis::start().await.unwrap();
    let mut connection = connect(&server).await;
    server.pause().await.unwrap();
    let silent = timeout(A_WHILE, connection.get::<_, Option<String>>("key")).await;
    assert!(silent.is_err() || silent.unwrap().is_err());
    server.resume().await.unwrap();
    eventually_ok(SOON, || async { connect(&server).await.get::<_, Option<String>>("key").await }).await;
}

#[tokio::test]
async fn ends_with_its_value() {
    let server = Redis::start().await.unwrap();
    let address = server.address();
    drop(server);
    assert!(TcpStream::connect(address).await.is_err());
}
