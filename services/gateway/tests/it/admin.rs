//! Backends changed while calls flow, and what is refused.

use std::{net::SocketAddr, time::Duration};

use weft_mesh::{
    Channel,
    error::{CallError, ErrorKind},
};
use weft_proto::gateway::v1::{
    AddBackendRequest, DrainBackendRequest, GetStatsRequest, ListPoolsRequest, Origin, Pool,
    RemoveBackendRequest, SetBackendWeightRequest, UndrainBackendRequest,
    gateway_service_client::GatewayServiceClient,
};
use weft_runtime::Running;
use weft_testkit::eventually;

use crate::{backend::TestBackend, client::Client, gateway};

fn admin(gateway: &Running) -> GatewayServiceClient<Channel> {
    GatewayServiceClient::new(Channel::direct(gateway.admin))
}

pub(crate) async fn pools(gateway: &Running) -> Vec<Pool> {
    admin(gateway).list_pools(ListPoolsRequest {}).await.unwrap().into_inner().pools
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
    let stats = admin(&gateway).get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.calls, stats.client_connections, stats.in_flight), (5, 1, 0));
    assert!(stats.replicas.is_empty(), "no pool says how to ask");
    gateway.stop().await;
}
