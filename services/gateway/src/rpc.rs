//! `GatewayService`: decode, ask the pools, encode.

mod explain;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use prost_types::Any;
use tonic::{Request, Response, Status, async_trait};
use weft_balance::{Backend, Policy};
use weft_mesh::{error::status, identity::Signer};
use weft_proto::gateway::v1 as pb;

use crate::{
    admin::{Entry, Pools},
    config,
    metrics::Metrics,
    reload::{Cause, Outcome, Reloader, Report},
    stats::{Answer, Collector},
};

/// The administration of a gateway.
pub(crate) struct Rpc {
    pools: Pools,
    metrics: Metrics,
    reloader: Arc<Reloader>,
    collector: Collector,
}

impl Rpc {
    pub(crate) fn new(
        pools: Pools,
        metrics: Metrics,
        reloader: Arc<Reloader>,
        signer: Option<Arc<Signer>>,
    ) -> Self {
        Self { pools, metrics, reloader, collector: Collector::new(signer) }
    }
}

type Answered<T> = Result<Response<T>, Status>;

#[async_trait]
impl pb::gateway_service_server::GatewayService for Rpc {
    async fn list_pools(&self, _: Request<pb::ListPoolsRequest>) -> Answered<pb::ListPoolsResponse> {
        let (config_version, entries) = self.pools.list();
        let pools = entries.iter().map(|entry| encode_pool(entry)).collect();
        Ok(Response::new(pb::ListPoolsResponse { pools, config_version }))
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

    async fn explain_pick(
        &self,
        request: Request<pb::ExplainPickRequest>,
    ) -> Answered<pb::ExplainPickResponse> {
        let pb::ExplainPickRequest { pool, limit } = request.into_inner();
        let picks = self.pools.picks(&pool, limit).map_err(status)?;
        let now = Instant::now();
        let picks = picks.into_iter().map(|pick| explain::encode(pick, now)).collect();
        Ok(Response::new(pb::ExplainPickResponse { picks }))
    }

    async fn reload_config(&self, _: Request<pb::ReloadConfigRequest>) -> Answered<pb::ReloadConfigResponse> {
        let report = self.reloader.reload(Cause::Call).await.map_err(status)?;
        Ok(Response::new(encode_report(report)))
    }

    async fn get_stats(&self, request: Request<pb::GetStatsRequest>) -> Answered<pb::GetStatsResponse> {
        let only = request.into_inner().pool;
        let mut answers = self.collector.collect(&self.pools, &only).await;
        answers.sort_by(|a, b| {
            let key =
                |answer: &Answer| (answer.entry.config.name.clone(), answer.backend.address().to_owned());
            key(a).cmp(&key(b))
        });
        let totals = &self.metrics.totals;
        Ok(Response::new(pb::GetStatsResponse {
            replicas: answers.into_iter().map(encode_answer).collect(),
            uptime: Some(encode_duration(totals.started.elapsed())),
            client_connections: totals.connections.load(Ordering::Relaxed).try_into().unwrap_or_default(),
            calls: totals.calls.load(Ordering::Relaxed),
            in_flight: totals.in_flight.count() as u64,
            config_version: self.pools.list().0,
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
        balance: Policy::from(entry.config.balance).as_str().to_owned(),
        backends: entry.pool.backends.list().iter().map(|backend| encode_backend(backend)).collect(),
        discovery_error: entry.discovery.error(),
        waiting: entry.pool.waiting() as u64,
    }
}

fn encode_backend(backend: &Backend) -> pb::Backend {
    let now = Instant::now();
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
    let ejection = match backend.ejection(now) {
        weft_balance::Ejection::None => pb::Ejection::None,
        weft_balance::Ejection::Ejected => pb::Ejection::Ejected,
        weft_balance::Ejection::HalfOpen => pb::Ejection::HalfOpen,
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
        ejection: ejection.into(),
        tier: backend.tier().into(),
        foreign: backend.foreign(now),
        latency: backend.latency(now).map(encode_duration),
    }
}

fn encode_report(report: Report) -> pb::ReloadConfigResponse {
    let outcome = match report.outcome {
        Outcome::Applied => pb::ReloadOutcome::Applied,
        Outcome::Unchanged => pb::ReloadOutcome::Unchanged,
        Outcome::Rejected => pb::ReloadOutcome::Rejected,
    };
    pb::ReloadConfigResponse {
        version: report.version,
        outcome: outcome.into(),
        problems: report.problems,
        needs_restart: report.needs_restart,
    }
}

fn encode_answer(answer: Answer) -> pb::ReplicaStats {
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
