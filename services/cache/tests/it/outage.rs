//! Redis stopped, frozen, cut off, restarted, demoted: sentences 14 to 17 of the contract, and what the service does.

use std::{sync::Arc, sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_cache::store::{Lookup, RedisStore, Store, StoreError};
use weft_testkit::{FaultProxy, Redis, eventually};

use crate::{
    fixture::{self, Fixture, RedisGuard, SOON, connected, item, key, replica, settings},
    race::{Row, contend},
};

/// Talks to Redis behind the store's back.
async fn command(url: &str, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async(&mut connection).await.unwrap()
}

/// A store that reaches its Redis through a proxy.
async fn proxied(server: &Arc<Redis>) -> (Fixture<RedisStore, RedisGuard>, FaultProxy) {
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    (connected(replica(server, settings(&proxy.url(server.url())))).await, proxy)
}

/// What the server's sockets have received and the server has not read.
fn unread_bytes(port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let received = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, queues) = (columns.next()?, columns.nth(2)?);
        let ours = local.ends_with(&format!(":{port:04X}"));
        ours.then(|| usize::from_str_radix(queues.split_once(':')?.1, 16).ok()).flatten()
    };
    sockets.lines().filter_map(received).sum()
}

async fn value(store: &impl Store, name: &str) -> Option<bytes::Bytes> {
    store.get_many(&[key(name)]).await.unwrap().remove(0)
}

async fn fill(store: &impl Store, name: &str, value: &'static str) {
    let Lookup::Leased(lease) = store.lookup(&key(name)).await.unwrap() else { panic!("{name} is not free") };
    assert!(store.fill(&item(name, value), lease).await.unwrap());
}

async fn comes_back(store: &impl Store) {
    eventually(SOON, || async { store.get_many(&[key("user_list")]).await.is_ok() }).await;
}

async fn every_call_fails(store: &impl Store) {
    let lease = weft_cache::store::Lease::unique();
    let calls = async {
        assert!(store.lookup(&key("user:1")).await.is_err());
        assert!(store.get_many(&[key("user:1")]).await.is_err());
        assert!(store.set(&[item("user:1", "x")]).await.is_err());
        assert!(store.fill(&item("user:1", "x"), lease).await.is_err());
        assert!(store.remove(&[key("user:1")]).await.is_err());
    };
    timeout(SOON, calls).await.expect("every call has a deadline");
    assert!(!store.reachable());
}

#[tokio::test]
async fn c14_a_set_that_failed_does_not_take_effect_later() {
    let store = fixture::redis().await;
    store.set(&[item("user:other", "the script is known to the server now")]).await.unwrap();
    store.guard.server.pause().await.unwrap();
    let failed = store.set(&[item("user:1", "zombie")]).await;
    assert!(matches!(failed, Err(StoreError::TimedOut | StoreError::Unreachable(_))), "{failed:?}");
    store.guard.server.resume().await.unwrap();
    comes_back(&*store).await;
    assert_eq!(value(&*store, "user:1").await, None);
}

/// The connection breaks while the command lies in the frozen server's buffer: failing is not being told too early.
#[tokio::test]
async fn c14_also_when_the_connection_breaks_meanwhile() {
    let server = Arc::new(Redis::start().await.unwrap());
    let (store, proxy) = proxied(&server).await;
    store.set(&[item("user:other", "the script is known to the server now")]).await.unwrap();
    server.pause().await.unwrap();
    let zombies = [item("user:1", vec![0; 4096])];
    let (failed, ()) = tokio::join!(store.set(&zombies), async {
        eventually(SOON, || async { unread_bytes(server.address().port()) > 4096 }).await;
        proxy.cut().await;
    });
    assert!(matches!(failed, Err(StoreError::Unreachable(_))), "{failed:?}");
    server.resume().await.unwrap();
    comes_back(&*store).await;
    assert_eq!(value(&*store, "user:1").await, None);
}

#[tokio::test]
async fn c15_calls_fail_while_redis_is_away_and_succeed_after_its_return() {
    let store = fixture::redis().await;
    let server = Arc::clone(&store.guard.server);
    server.stop().await.unwrap();
    every_call_fails(&*store).await;
    server.restart().await.unwrap();
    comes_back(&*store).await;
    fill(&*store, "user:after-restart", "x").await;

    server.pause().await.unwrap();
    every_call_fails(&*store).await;
    server.resume().await.unwrap();
    comes_back(&*store).await;
    fill(&*store, "user:after-pause", "x").await;
}

#[tokio::test]
async fn c15_a_silent_network_is_as_good_as_none() {
    let server = Arc::new(Redis::start().await.unwrap());
    let (store, proxy) = proxied(&server).await;
    proxy.stall().await;
    every_call_fails(&*store).await;
    let fails_at_once =
        || async { matches!(store.get_many(&[key("user:1")]).await, Err(StoreError::Unreachable(_))) };
    eventually(SOON, fails_at_once).await;
    proxy.heal().await.unwrap();
    comes_back(&*store).await;
    proxy.cut().await;
    comes_back(&*store).await;
    fill(&*store, "user:2", "x").await;
}

#[tokio::test]
async fn c15_a_caller_in_a_hurry_is_not_kept() {
    use weft_mesh::context::{Context, scope};

    let store = fixture::redis().await;
    store.guard.server.pause().await.unwrap();
    let context = Context::acting_for("local").until(std::time::Instant::now() + Duration::from_millis(5));
    let answer = scope(context, store.lookup(&key("user:1"))).await;
    assert!(matches!(answer, Err(StoreError::TimedOut)), "{answer:?}");
    assert!(store.reachable(), "its own haste says nothing about redis");
    store.guard.server.resume().await.unwrap();
}

#[tokio::test]
async fn c16_what_could_not_be_removed_is_dropped_by_the_repetition() {
    let server = Arc::new(Redis::start().await.unwrap());
    let (store, proxy) = proxied(&server).await;
    fill(&*store, "chat:1", "v1").await;
    proxy.refuse().await;
    assert!(store.remove(&[key("chat:1"), key("chat_list:ada")]).await.is_err());
    proxy.heal().await.unwrap();
    comes_back(&*store).await;
    assert_eq!(value(&*store, "chat:1").await.as_deref(), Some(&b"v1"[..]), "redis kept it all the time");
    assert_eq!(store.remove(&[key("chat:1"), key("chat_list:ada")]).await.unwrap(), 1);
    assert!(matches!(store.lookup(&key("chat:1")).await, Ok(Lookup::Leased(_))));
}

#[tokio::test]
async fn c16_also_when_redis_was_restarted_empty() {
    let store = fixture::redis().await;
    let server = Arc::clone(&store.guard.server);
    fill(&*store, "chat:1", "v1").await;
    let Ok(Lookup::Leased(late)) = store.lookup(&key("chat:2")).await else { panic!("chat:2 is not free") };
    server.stop().await.unwrap();
    assert!(store.remove(&[key("chat:1"), key("chat:2")]).await.is_err());
    server.restart().await.unwrap();
    comes_back(&*store).await;
    assert!(!store.fill(&item("chat:2", "loaded before"), late).await.unwrap());
    assert_eq!(store.remove(&[key("chat:1"), key("chat:2")]).await.unwrap(), 0);
    assert!(matches!(store.lookup(&key("chat:1")).await, Ok(Lookup::Leased(_))));
}

#[tokio::test]
async fn c17_a_restart_from_an_old_snapshot_brings_nothing_back() {
    let store = fixture::redis().await;
    let server = Arc::clone(&store.guard.server);
    fill(&*store, "chat:1", "v1").await;
    command(server.url(), &["SAVE"]).await;
    assert_eq!(store.remove(&[key("chat:1")]).await.unwrap(), 1, "acknowledged, but after the snapshot");
    server.stop().await.unwrap();
    server.restart().await.unwrap();
    comes_back(&*store).await;
    assert_ne!(command(server.url(), &["DBSIZE"]).await, redis::Value::Int(0), "the snapshot was loaded");
    assert!(matches!(store.lookup(&key("chat:1")).await, Ok(Lookup::Leased(_))));
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_away_until_it_does() {
    let store = fixture::redis().await;
    let server = Arc::clone(&store.guard.server);
    command(server.url(), &["REPLICAOF", "127.0.0.1", "1"]).await;
    assert!(matches!(store.set(&[item("user:1", "x")]).await, Err(StoreError::Unreachable(_))));
    eventually(SOON, || async { !store.reachable() }).await;
    command(server.url(), &["REPLICAOF", "NO", "ONE"]).await;
    eventually(SOON, || async { store.set(&[item("user:1", "x")]).await.is_ok() }).await;
}

#[tokio::test]
async fn a_refusal_is_no_outage() {
    let store = fixture::redis().await;
    let server = Arc::clone(&store.guard.server);
    command(server.url(), &["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(matches!(store.set(&[item("user:1", "x")]).await, Err(StoreError::Refused(_))));
    assert!(store.reachable());
    command(server.url(), &["CONFIG", "SET", "maxmemory", "0"]).await;
    store.set(&[item("user:1", "x")]).await.unwrap();
}

#[tokio::test]
async fn namespaces_do_not_meet() {
    let ours = fixture::redis().await;
    let server = Arc::clone(&ours.guard.server);
    let settings = settings(server.url());
    let theirs =
        replica(&server, weft_cache::store::redis::RedisSettings { namespace: "other".into(), ..settings });
    let theirs = connected(theirs).await;
    ours.set(&[item("user:1", "ours")]).await.unwrap();
    assert_eq!(value(&*theirs, "user:1").await, None);
    assert_eq!(theirs.remove(&[key("user:1")]).await.unwrap(), 0);
    assert_eq!(value(&*ours, "user:1").await.as_deref(), Some(&b"ours"[..]));
}

/// Two replicas, each behind its own bad network to one Redis that is killed and frozen as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_stale_read_under_faults() {
    let server = Arc::new(Redis::start().await.unwrap());
    let ((writer, near), (reader, far)) = (proxied(&server).await, proxied(&server).await);
    let (row, stop): (Arc<Row>, _) = (Arc::default(), CancellationToken::new());
    let replicas = [writer.share(), reader.share()];
    let faults = async {
        for round in 0..12 {
            let (failures, hits) = (row.failures.load(SeqCst), row.hits.load(SeqCst));
            match round % 6 {
                0 => near.cut().await,
                1 => far.stall().await,
                2 => near.stall().await,
                3 => near.refuse().await,
                4 => server.pause().await.unwrap(),
                _ => server.stop().await.unwrap(),
            }
            eventually(SOON, || async { row.failures.load(SeqCst) > failures }).await;
            match round % 6 {
                4 => server.resume().await.unwrap(),
                5 => server.restart().await.unwrap(),
                _ => {}
            }
            near.heal().await.unwrap();
            far.heal().await.unwrap();
            comes_back(&*writer).await;
            comes_back(&*reader).await;
            eventually(SOON, || async { row.hits.load(SeqCst) > hits + 100 }).await;
        }
        stop.cancel();
    };
    tokio::join!(contend(&row, &replicas, &stop), faults);
    assert!(row.changes.load(SeqCst) > 100);
}
