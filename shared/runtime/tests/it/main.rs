//! A service in the runtime's hands: called through balanced channels, refused, late, traced to its end, stopped.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod echo;

use std::time::{Duration, Instant};

use echo::{Echo, EchoConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use weft_mesh::{
    Channel, Peer,
    context::{self, Context},
    error::{CallError, ErrorKind},
};
use weft_proto::cache::v1::{
    GetRequest, cache_service_client::CacheServiceClient, get_response::Result as Got,
};
use weft_runtime::{Listeners, Running, start};
use weft_testkit::eventually;

async fn serve(config: EchoConfig) -> Running {
    let listeners = Listeners::bind(&config).await.unwrap();
    start::<Echo>(config, listeners).await.unwrap()
}

async fn ask(channel: Channel, key: &str) -> Result<String, CallError> {
    let response = CacheServiceClient::new(channel).get(GetRequest { key: key.into() }).await;
    match response.map_err(CallError::from)?.into_inner().result.unwrap() {
        Got::Hit(hit) => Ok(String::from_utf8(hit.value.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn identity_and_deadline_travel_with_the_call() {
    let running = serve(EchoConfig::default()).await;
    let channel = Channel::direct(running.address);
    assert_eq!(ask(channel.clone(), "user").await.unwrap(), "local");
    let ada = context::scope(Context::acting_for("ada"), ask(channel.clone(), "user"));
    assert_eq!(ada.await.unwrap(), "ada");
    let soon = Instant::now() + Duration::from_secs(3);
    let left =
        context::scope(Context::acting_for("ada").until(soon), ask(channel.clone(), "left")).await.unwrap();
    assert!(left.parse::<u128>().unwrap() <= 3000, "{left}");
    let left = ask(channel, "left").await.unwrap();
    assert!(left.parse::<u128>().unwrap() <= 5000, "no call without a deadline, {left}");
    running.stop().await;
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_when_the_server_is_unavailable_for_a_moment() {
    let running = serve(EchoConfig::default()).await;
    let channel = Channel::direct(running.address);
    assert_eq!(ask(channel.clone(), "unavailable once").await.unwrap(), "2 calls");
    let error = ask(channel.clone(), "unavailable").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "and not for ever");
    let soon = Instant::now() + Duration::from_millis(400);
    let late =
        context::scope(Context::acting_for("ada").until(soon), ask(channel, "unavailable, then never"));
    assert_eq!(
        late.await.unwrap_err().kind,
        ErrorKind::Unavailable,
        "what was met with, not that time was over"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_late_handler_is_cut_off_at_the_deadline() {
    let running = serve(EchoConfig::default()).await;
    let mut client = CacheServiceClient::new(Channel::direct(running.address));
    let mut request = Request::new(GetRequest { key: "never".into() });
    request.set_timeout(Duration::from_millis(50));
    assert_eq!(client.get(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    running.stop().await;
}

#[tokio::test]
async fn malformed_metadata_is_refused_and_names_the_field() {
    let running = serve(EchoConfig::default()).await;
    let mut client = CacheServiceClient::new(Channel::direct(running.address));
    let mut request = Request::new(GetRequest { key: "user".into() });
    request.metadata_mut().insert("weft-user", "two words".parse().unwrap());
    let error = CallError::from(client.get(request).await.unwrap_err());
    assert_eq!((error.kind, error.fields[0].field.as_str()), (ErrorKind::InvalidArgument, "weft-user"));
    running.stop().await;
}

#[tokio::test]
async fn calls_over_the_limit_are_refused_with_a_hint() {
    let mut config = EchoConfig::default();
    config.lifecycle.max_in_flight = 1;
    config.lifecycle.drain_timeout = Duration::from_millis(50);
    let running = serve(config).await;
    let channel = Channel::direct(running.address);
    let waiting = tokio_util::task::AbortOnDropHandle::new(TaskTracker::new().spawn({
        let channel = channel.clone();
        async move { ask(channel, "never").await }
    }));
    let refused = loop {
        match ask(channel.clone(), "user").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!((refused.kind, refused.reason.as_str()), (ErrorKind::ResourceExhausted, "OVERLOADED"));
    assert!(refused.retry_after.is_some());
    drop(waiting);
    running.stop().await;
}

#[tokio::test]
async fn who_watches_a_server_is_no_load_and_a_full_one_still_answers_probes() {
    let mut config = EchoConfig::default();
    config.lifecycle.max_in_flight = 2;
    config.lifecycle.drain_timeout = Duration::from_millis(50);
    let running = serve(config).await;
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    let mut health = HealthClient::new(Channel::direct(running.address));
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);

    let peer = Peer::at([running.address.to_string()]);
    let channel = Channel::new("echo", &peer, &tasks, stopping.clone());
    ask(channel.clone(), "user").await.unwrap();
    let foreign = channel.pool().backends.list()[0].foreign(Instant::now());
    assert!(foreign.abs() < f64::EPSILON, "it reports its calls, not its {foreign} watchers");
    // A call of somebody else counts, as long as it is there.
    let others =
        tokio_util::task::AbortOnDropHandle::new(tasks.spawn(ask(Channel::direct(running.address), "never")));
    let reported = || async {
        ask(channel.clone(), "user").await.unwrap();
        channel.pool().backends.list()[0].foreign(Instant::now()) > 0.9
    };
    eventually(Duration::from_secs(10), reported).await;
    drop(others);
    let gone = || async {
        ask(channel.clone(), "user").await.unwrap();
        channel.pool().backends.list()[0].foreign(Instant::now()).abs() < f64::EPSILON
    };
    eventually(Duration::from_secs(10), gone).await;

    let full = [(); 2]
        .map(|()| tokio_util::task::AbortOnDropHandle::new(tasks.spawn(ask(channel.clone(), "never"))));
    while ask(channel.clone(), "user").await.is_ok() {}
    let check = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(check.into_inner().status, 1);
    drop(full);
    running.stop().await;
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn health_follows_readiness_and_watchers_see_it_change() {
    let config = EchoConfig { ready: false, ..EchoConfig::default() };
    let running = serve(config).await;
    let mut health = HealthClient::new(Channel::direct(running.address));
    let mut watch = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    let live = health.check(HealthCheckRequest { service: "liveness".into() }).await.unwrap();
    assert_eq!(live.into_inner().status, 1);
    assert!(running.ready().unwrap_err().contains("switched off"));

    assert_eq!(ask(Channel::direct(running.address), "ready").await.unwrap(), "on");
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    let named =
        health.check(HealthCheckRequest { service: "weft.cache.v1.CacheService".into() }).await.unwrap();
    assert_eq!(named.into_inner().status, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_channel_leaves_a_dead_replica_at_once_and_takes_it_back() {
    let (one, two) = (serve(EchoConfig::default()).await, serve(EchoConfig::default()).await);
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    let peer = Peer {
        health_interval: Duration::from_millis(50),
        ..Peer::at([one.address.to_string(), two.address.to_string()])
    };
    let channel = Channel::new("echo", &peer, &tasks, stopping.clone());
    for _ in 0..20 {
        ask(channel.clone(), "user").await.unwrap();
    }
    let backends = channel.pool().backends.list();
    assert!(backends.iter().all(|backend| backend.calls() >= 5), "both take calls");

    let address = two.address;
    two.stop().await;
    for _ in 0..50 {
        ask(channel.clone(), "user").await.unwrap();
    }
    assert!(backends.iter().all(|backend| backend.in_flight() == 0), "nothing leaks");

    let three = serve(EchoConfig { address: address.to_string(), ..EchoConfig::default() }).await;
    let before = backends[1].calls();
    while backends[1].calls() == before {
        ask(channel.clone(), "user").await.unwrap();
    }
    one.stop().await;
    three.stop().await;
    let error = ask(channel.clone(), "user").await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "NO_HEALTHY_BACKENDS"));
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn stopping_lets_calls_in_flight_finish() {
    let running = serve(EchoConfig::default()).await;
    let channel = Channel::direct(running.address);
    let tasks = TaskTracker::new();
    let last = tasks.spawn({
        let channel = channel.clone();
        async move { ask(channel, "until draining").await }
    });
    // The health watch says when the call is in the handler's hands: it was sent before on the same connection.
    HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.unwrap();
    running.stop().await;
    assert_eq!(last.await.unwrap().unwrap(), "finished");
}

#[tokio::test]
async fn the_admin_port_answers_probes_and_unknown_paths() {
    let running = serve(EchoConfig::default()).await;
    assert!(echo::http_get(running.admin, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(echo::http_get(running.admin, "/readyz").await.contains("\"serving\""));
    assert!(echo::http_get(running.address, "/health").await.starts_with("HTTP/1.1 200"));
    assert!(echo::http_get(running.admin, "/metrics").await.starts_with("HTTP/1.1 200"));
    let unknown = echo::http_get(running.address, "/nothing").await;
    assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains("NOT_FOUND"), "{unknown}");
    running.stop().await;
}
