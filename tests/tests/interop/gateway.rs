//! The gateway between the peers.

use std::net::SocketAddr;

use weft_gateway::{Backend, Config, Gateway, Health, HealthKind, Listener, Pool, Route};
use weft_mesh::Channel;
use weft_proto::gateway::v1::{ListPoolsRequest, gateway_service_client::GatewayServiceClient};
use weft_runtime::{Listeners, Running, config::Admin, start};
use weft_testkit::eventually;

use crate::events::LIMIT;

/// A gateway whose pool `peers` serves everything in `grpc.testing`. No checks: the peers have no health service, and
/// those that misbehave would do so to a check.
pub(crate) async fn gateway(backends: &[SocketAddr]) -> Running {
    gateway_with(backends, |_| {}).await
}

/// The same, configured otherwise.
pub(crate) async fn gateway_with(backends: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Running {
    let backends = backends.iter().map(|a| Backend { address: a.to_string(), weight: 1, tier: 0 }).collect();
    let health = Health { kind: Some(HealthKind::None), ..Health::default() };
    let mut config = Config {
        workers: 1,
        listeners: vec![Listener::at("127.0.0.1:0")],
        admin: Admin::at("127.0.0.1:0"),
        pools: vec![Pool { name: "peers".into(), backends, health, ..Pool::default() }],
        routes: vec![Route::grpc("grpc.testing.*", "peers")],
        ..Config::default()
    };
    change(&mut config);
    let listeners = Listeners::bind(&config).await.unwrap();
    start::<Gateway>(config, listeners).await.unwrap()
}

/// Waits until the gateway counts no call as in flight.
pub(crate) async fn at_rest(gateway: &Running) {
    let mut admin = GatewayServiceClient::new(Channel::direct(gateway.admin));
    let pools = admin.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools;
    assert_eq!(pools.len(), 1);
    let quiet = || async {
        let mut admin = admin.clone();
        let pools = admin.list_pools(ListPoolsRequest::default()).await.unwrap().into_inner().pools;
        pools[0].backends.iter().all(|backend| backend.in_flight == 0)
    };
    eventually(LIMIT, quiet).await;
}
