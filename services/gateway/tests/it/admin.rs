//! Backends changed while calls flow, and what is refused.

use std::{net::SocketAddr, time::Duration};

use weft_gateway::HealthKind;
use weft_mesh::{
    Channel,
    error::{CallError, ErrorKind},
};
use weft_proto::gateway::v1::{
    AddBackendRequest, DrainBackendRequest, Ejection, ExplainPickRequest, GetStatsRequest, GetStatsResponse,
    Health, LeftOut, ListPoolsRequest, Origin, Pick, PickReason, Pool, RemoveBackendRequest,
    SetBackendWeightRequest, UndrainBackendRequest, candidate::Standing,
    gateway_service_client::GatewayServiceClient,
};
use weft_runtime::Running;
use weft_testkit::eventually;

use crate::{backend::TestBackend, client::Client, config, gateway, health::health, started};

fn admin(gateway: &Running) -> GatewayServiceClient<Channel> {
    GatewayServiceClient::new(Channel::direct(gateway.admin))
}

pub(crate) async fn pools(gateway: &Running) -> Vec<Pool> {
    admin(gateway).list_pools(ListPoolsRequest {}).await.unwrap().into_inner().pools
}

pub(crate) async fn stats(gateway: &Running) -> GetStatsResponse {
    admin(gateway).get_stats(GetStatsRequest::default()).await.unwrap().into_inner()
}

pub(crate) async fn in_flight(gateway: &Running) -> Vec<u64> {
    pools(gateway).await[0].backends.iter().map(|backend| backend.in_flight).collect()
}

pub(crate) async fn set_weight(gateway: &Running, address: SocketAddr, weight: u32) {
    let request = SetBackendWeightRequest { pool: "echo".into(), address: address.to_string(), weight };
    admin(gateway).set_backend_weight(request).await.unwrap();
}

#[tokio::test]
async fn backends_come_and_go_without_a_failed_call() {
    let (one, two) = (TestBackend::start().await, TestBackend::start().await);
    let gateway = gateway(&[one.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    client.unary("Echo", b"x", &[]).await.unwrap();
    let (pool, address) = ("echo".to_owned(), two.address.to_string());

    let add = AddBackendRequest { pool: pool.clone(), address: address.clone(), weight: 0 };
    admin(&gateway).add_backend(add.clone()).await.unwrap();
    let served = || async {
        client.unary("Echo", b"x", &[]).await.unwrap();
        two.calls() > 0
    };
    eventually(Duration::from_secs(10), served).await;
    let backends = &pools(&gateway).await[0].backends;
    assert_eq!((backends[1].origin(), backends[1].weight), (Origin::Added, 1));

    let drain = DrainBackendRequest { pool: pool.clone(), address: one.address.to_string() };
    assert!(admin(&gateway).drain_backend(drain).await.unwrap().into_inner().backend.unwrap().draining);
    let before = one.calls();
    for _ in 0..20 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    assert_eq!(one.calls(), before, "a drained backend gets nothing new");
    let undrain = UndrainBackendRequest { pool: pool.clone(), address: one.address.to_string() };
    admin(&gateway).undrain_backend(undrain).await.unwrap();
    for _ in 0..20 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    assert!(one.calls() > before);

    let before = two.calls();
    admin(&gateway).remove_backend(RemoveBackendRequest { pool, address }).await.unwrap();
    for _ in 0..20 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    assert_eq!(two.calls(), before);
    gateway.stop().await;
}

#[tokio::test]
async fn a_pick_is_explained_by_who_was_compared_and_who_was_not() {
    let (one, two) = (TestBackend::start().await, TestBackend::start().await);
    let gateway = gateway(&[one.address, two.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let drained = two.address.to_string();
    let drain = DrainBackendRequest { pool: "echo".into(), address: drained.clone() };
    admin(&gateway).drain_backend(drain).await.unwrap();
    for _ in 0..3 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    let picks = async |limit| -> Vec<Pick> {
        let request = ExplainPickRequest { pool: "echo".into(), limit };
        admin(&gateway).explain_pick(request).await.unwrap().into_inner().picks
    };
    let all = picks(0).await;
    assert_eq!(all.len(), 3, "one for each call");
    assert!(all.is_sorted_by_key(|pick| std::cmp::Reverse(pick.ticket)), "newest first");
    for pick in &all {
        assert_eq!((&pick.chosen, pick.reason()), (&one.address.to_string(), PickReason::OnlyOne));
        let standing = |address: &str| {
            let candidate = pick.candidates.iter().find(|candidate| candidate.address == address);
            candidate.and_then(|candidate| candidate.standing).unwrap()
        };
        assert_eq!(standing(&drained), Standing::LeftOut(LeftOut::Draining.into()));
        assert_eq!(standing(&pick.chosen), Standing::Score(1.0), "nothing else was in flight");
    }
    assert_eq!(picks(1).await[0].ticket, all[0].ticket);

    let unknown = ExplainPickRequest { pool: "nowhere".into(), limit: 0 };
    let error = CallError::from(admin(&gateway).explain_pick(unknown).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_backend_whose_calls_fail_is_out_although_its_checks_pass_and_a_call_brings_it_back() {
    let (one, two) = (TestBackend::start().await, TestBackend::start().await);
    // A connection is all that is checked.
    let mut config = config(&[one.address, two.address], &[], HealthKind::Tcp);
    config.pools[0].outlier.base_ejection = Duration::from_millis(500);
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    two.set_healthy(false);
    let ejection = async || {
        let backend = pools(&gateway).await[0].backends[1].clone();
        (backend.health(), backend.ejection())
    };
    // Both: of one alone nobody would be ejected.
    let checked = || async { health(&gateway, "echo").await == [Health::Healthy; 2] };
    eventually(Duration::from_secs(10), checked).await;
    assert_eq!(ejection().await, (Health::Healthy, Ejection::None));
    let mut failed = 0;
    while ejection().await.1 == Ejection::None {
        failed += usize::from(client.unary("EchoIfHealthy", b"x", &[]).await.is_err());
        assert!(failed <= 5, "five in a row are enough");
    }
    assert_eq!(failed, 5);
    let left_out = || async {
        // One that tries whether it is well again fails.
        let _ = client.unary("EchoIfHealthy", b"x", &[]).await;
        let request = ExplainPickRequest { pool: "echo".into(), limit: 1 };
        let pick = admin(&gateway).explain_pick(request).await.unwrap().into_inner().picks.remove(0);
        pick.candidates[1].standing == Some(Standing::LeftOut(LeftOut::Ejected.into()))
    };
    eventually(Duration::from_secs(10), left_out).await;
    assert_eq!(ejection().await.0, Health::Healthy);

    let before = two.calls();
    two.set_healthy(true);
    let back = || async {
        client.unary("EchoIfHealthy", b"x", &[]).await.unwrap();
        ejection().await.1 == Ejection::None
    };
    eventually(Duration::from_secs(10), back).await;
    assert!(two.calls() > before, "it was a call that brought it back");
    gateway.stop().await;
}

/// Another gateway's calls, as the backend tells them: they count like own ones, and clients hear nothing of them.
#[tokio::test]
async fn what_a_backend_says_of_its_load_steers_calls_away_from_it() {
    let (one, two) = (TestBackend::start().await, TestBackend::start().await);
    let gateway = gateway(&[one.address, two.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    let checked = || async { health(&gateway, "echo").await == [Health::Healthy; 2] };
    eventually(Duration::from_secs(10), checked).await;
    let (_, headers) = client.unary("Loaded", b"", &[]).await.unwrap();
    assert!(headers.contains_key("x-trailer") && !headers.contains_key(weft_mesh::load_report::HEADER));
    let foreign: Vec<_> = pools(&gateway).await[0].backends.iter().map(|backend| backend.foreign).collect();
    let (loaded, other) = if one.calls() == 1 { (0, &two) } else { (1, &one) };
    assert!(foreign[loaded] > 40.0 && foreign[1 - loaded].abs() < f64::EPSILON, "{foreign:?}");
    for _ in 0..10 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    assert_eq!(other.calls(), 10);
    gateway.stop().await;
}

#[tokio::test]
async fn bad_changes_are_refused_by_name() {
    let one = TestBackend::start().await;
    let gateway = gateway(&[one.address], &[]).await;
    let mut admin = admin(&gateway);
    let add = |pool: &str, address: &str, weight| AddBackendRequest {
        pool: pool.into(),
        address: address.into(),
        weight,
    };
    for (request, kind, reason) in [
        (add("nope", "127.0.0.1:1", 1), ErrorKind::NotFound, "UNKNOWN_POOL"),
        (add("echo", "nowhere", 1), ErrorKind::InvalidArgument, "INVALID_ADDRESS"),
        (add("echo", "127.0.0.1:1", 1001), ErrorKind::InvalidArgument, "INVALID_WEIGHT"),
        (add("echo", &one.address.to_string(), 1), ErrorKind::AlreadyExists, "BACKEND_EXISTS"),
    ] {
        let error = CallError::from(admin.add_backend(request).await.unwrap_err());
        assert_eq!((error.kind, error.reason.as_str()), (kind, reason));
    }
    let remove = RemoveBackendRequest { pool: "echo".into(), address: "127.0.0.1:1".into() };
    let error = CallError::from(admin.remove_backend(remove).await.unwrap_err());
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::NotFound, "UNKNOWN_BACKEND"));
    assert_eq!(pools(&gateway).await[0].backends.len(), 1, "nothing changed");
    gateway.stop().await;
}

#[tokio::test]
async fn statistics_name_the_gateway_itself() {
    let one = TestBackend::start().await;
    let gateway = gateway(&[one.address], &[]).await;
    let client = Client::connect(gateway.address).await;
    for _ in 0..5 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    let stats = stats(&gateway).await;
    assert_eq!((stats.calls, stats.client_connections, stats.in_flight), (5, 1, 0));
    assert!(stats.replicas.is_empty(), "no pool says how to ask");
    gateway.stop().await;
}
