//! `GatewayService`: decode, ask the pools, encode.

use std::{sync::atomic::Ordering, time::Duration};

use prost_types::Any;
use tonic::{Request, Response, Status, async_trait};
use weft_balance::Backend;
use weft_mesh::error::status;
use weft_proto::gateway::v1 as pb;

use crate::{
    admin::{Entry, Pools},
    config,
    metrics::Metrics,
    stats::{Answer, Collector},
};

/// The administration of a gateway.
pub(crate) struct Rpc {
    pools: Pools,
    metrics: Metrics,
    collector: Collector,
}

impl Rpc {
    pub(crate) fn new(pools: Pools, metrics: Metrics) -> Self {
        Self { pools, metrics, collector: Collector::default() }
    }
}

type Answered<T> = Result<Response<T>, Status>;

#[async_trait]
impl pb::gateway_service_server::GatewayService for Rpc {
    async fn list_pools(&self, _: Request<pb::ListPoolsRequest>) -> Answered<pb::ListPoolsResponse> {
        let pools = self.pools.iter().map(encode_pool).collect();
        Ok(Response::new(pb::ListPoolsResponse { pools }))
    }

    async fn add_backend(&self, request: Request<pb::AddBackendRequest>) -> Answered<pb::AddBackendResponse> {
        let pb::AddBackendRequest { pool, address, weight } = request.into_inner();
        let backend = self.pools.add(&pool, &address, weight).map_err(status)?;
        Ok(Response::new(pb::AddBackendResponse { backend: Some(encode_backend(&backend)) }))
    }

    async fn remove_backend(
        &self,
        request: Request<pb::RemoveBackendRequest>,
    ) -> Answered<pb::RemoveBackendResponse> {
        let pb::RemoveBackendRequest { pool, address } = request.into_inner();
        self.pools.remove(&pool, &address).map_err(status)?;
        Ok(Response::new(pb::RemoveBackendResponse {}))
    }

    async fn set_backend_weight(
        &self,
        request: Request<pb::SetBackendWeightRequest>,
    ) -> Answered<pb::SetBackendWeightResponse> {
        let pb::SetBackendWeightRequest { pool, address, weight } = request.into_inner();
        let backend = self.pools.set_weight(&pool, &address, weight).map_err(status)?;
        Ok(Response::new(pb::SetBackendWeightResponse { backend: Some(encode_backend(&backend)) }))
    }

    async fn drain_backend(
        &self,
        request: Request<pb::DrainBackendRequest>,
    ) -> Answered<pb::DrainBackendResponse> {
        let pb::DrainBackendRequest { pool, address } = request.into_inner();
        let backend = self.pools.set_draining(&pool, &address, true).map_err(status)?;
        Ok(Response::new(pb::DrainBackendResponse { backend: Some(encode_backend(&backend)) }))
    }

    async fn undrain_backend(
        &self,
        request: Request<pb::UndrainBackendRequest>,
    ) -> Answered<pb::UndrainBackendResponse> {
        let pb::UndrainBackendRequest { pool, address } = request.into_inner();
        let backend = self.pools.set_draining(&pool, &address, false).map_err(status)?;
        Ok(Response::new(pb::UndrainBackendResponse { backend: Some(encode_backend(&backend)) }))
    }

    async fn get_stats(&self, request: Request<pb::GetStatsRequest>) -> Answered<pb::GetStatsResponse> {
        let only = request.into_inner().pool;
        let mut answers = self.collector.collect(&self.pools, &only).await;
        answers.sort_by(|a, b| {
            let key =
                |answer: &Answer<'_>| (answer.entry.config.name.clone(), answer.backend.address().to_owned());
            key(a).cmp(&key(b))
        });
        let totals = &self.metrics.totals;
        Ok(Response::new(pb::GetStatsResponse {
            replicas: answers.into_iter().map(encode_answer).collect(),
            uptime: Some(encode_duration(totals.started.elapsed())),
            client_connections: totals.connections.load(Ordering::Relaxed).try_into().unwrap_or_default(),
            calls: totals.calls.load(Ordering::Relaxed),
            in_flight: totals.in_flight.count() as u64,
        }))
    }
}

fn encode_pool(entry: &Entry) -> pb::Pool {
    pb::Pool {
        name: entry.config.name.clone(),
        protocol: match entry.config.protocol {
            config::Protocol::Grpc => "grpc".to_owned(),
            config::Protocol::Http => "http".to_owned(),
        },
        balance: "least_connections".to_owned(),
        backends: entry.pool.backends.list().iter().map(|backend| encode_backend(backend)).collect(),
        discovery_error: entry.discovery.error(),
    }
}

fn encode_backend(backend: &Backend) -> pb::Backend {
    let origin = match backend.origin() {
        weft_balance::Origin::Added => pb::Origin::Added,
        _ if backend.changed() => pb::Origin::Changed,
        weft_balance::Origin::Config => pb::Origin::Config,
        weft_balance::Origin::Discovered => pb::Origin::Discovered,
    };
    let health = match backend.health() {
        weft_balance::Health::Unknown => pb::Health::Unknown,
        weft_balance::Health::Healthy => pb::Health::Healthy,
        weft_balance::Health::Unhealthy => pb::Health::Unhealthy,
    };
    pb::Backend {
        address: backend.address().to_owned(),
        weight: backend.weight(),
        health: health.into(),
        draining: backend.draining(),
        in_flight: backend.in_flight(),
        calls: backend.calls(),
        failures: backend.failures(),
        origin: origin.into(),
        last_error: backend.last_error(),
    }
}

fn encode_answer(answer: Answer<'_>) -> pb::ReplicaStats {
    let method = answer.entry.config.stats_method.as_deref().unwrap_or_default();
    let result = match answer.result {
        Ok(bytes) => {
            pb::replica_stats::Result::Stats(Any { type_url: type_url(method), value: bytes.into() })
        }
        Err(error) => pb::replica_stats::Result::Error(error),
    };
    pb::ReplicaStats {
        pool: answer.entry.config.name.clone(),
        backend: Some(encode_backend(&answer.backend)),
        result: Some(result),
        elapsed: Some(encode_duration(answer.elapsed)),
    }
}

/// `a.b.Service/GetStats` answers with `a.b.GetStatsResponse`, as the contracts' style has it.
fn type_url(method: &str) -> String {
    let (service, method) = method.trim_start_matches('/').split_once('/').unwrap_or_default();
    let package = service.rsplit_once('.').map_or("", |(package, _)| package);
    weft_proto::type_url(&format!("{package}.{method}Response"))
}

fn encode_duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or_default()
}
