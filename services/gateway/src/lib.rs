//! The gateway: spreads clients' calls over healthy replicas by weighted least connections.
//!
//! Role: take gRPC and HTTP on one port, find the pool by service, host or path ([`route`]), and forward bytes to the
//! least loaded healthy backend ([`forward`]); administration on the admin port ([`admin`]).
//!
//! Non-goals: decoding what it forwards; knowing Weft's services beyond its default configuration. What decides is in
//! `weft-balance`, what connects and probes in `weft-mesh`.
//!
//! Invariants: a call that may have been executed is forwarded again only if its contract or its route says that this
//! is safe; a client that goes away cancels its call at the backend; a worker thread shares no connection with another
//! and waits for none: what they share are counters, and locks that are held for the length of a comparison.
//!
//! A call is decided by one table (`table`), which a reload (`reload`) replaces whole while calls flow.
//!
//! Failure modes: a dead backend is left at the first refused connection and taken back by a passing check; a pool
//! without a healthy backend answers UNAVAILABLE with the reason `NO_HEALTHY_BACKENDS` (HTTP 503).

#![forbid(unsafe_code)]

mod access_log;
pub mod admin;
mod auth;
mod certificates;
mod config;
mod error;
pub mod forward;
mod gate;
mod metrics;
mod openai;
mod rate;
mod reload;
pub mod route;
mod rpc;
mod stats;
mod table;
mod translate;
mod worker;

use std::sync::Arc;

use anyhow::Context as _;
use weft_mesh::methods::Methods;
use weft_proto::gateway::v1::gateway_service_server::GatewayServiceServer;
use weft_runtime::{Assembly, Scope, Service};

use access_log::AccessLog;
use admin::Pools;
use auth::Operators;
use certificates::Certificates;
pub use config::{
    Auth, Backend, Balance, CertificateHolder, Config, Cors, HeaderMatch, Health, HealthKind, Issuer,
    Listener, Models, Outlier, Overload, Panic, Permission, Pool, Priority, Protocol, RateLimit, Redirect,
    Reload, Retry, Rewrite, Route, SlowStart,
};
use forward::Common;
use metrics::Metrics;
use reload::Reloader;
use table::Tables;
use translate::{Buffers, Contracts};
use worker::Workers;

/// The gateway service.
#[derive(Debug)]
pub struct Gateway;

impl Service for Gateway {
    const NAME: &'static str = "gateway";
    type Config = Config;
    const RELOADS: bool = true;

    async fn assemble(config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        let threads = worker::threads(config.workers);
        let (methods, contracts) = methods(&config)?;
        let tables = Tables::start(&config, threads, &methods, &scope)?;
        let pools = Pools::new(Arc::clone(&tables));
        let access_log =
            config.access_log.as_deref().map(AccessLog::open).transpose().context("access_log")?;
        let metrics = Metrics::new(&pools, &methods, access_log.as_ref());
        if let Some(log) = access_log.clone() {
            // Its last lines are those of calls that the drain ended.
            let stopping = scope.stopping.clone();
            scope.tasks.spawn(async move {
                stopping.cancelled().await;
                log.flush().await;
            });
        }
        let common = Common {
            gate: metrics.totals.in_flight.clone(),
            metrics: metrics.clone(),
            methods,
            contracts,
            buffers: Buffers::default(),
            access_log,
            scope: scope.clone(),
        };
        let certificates = Certificates::new(&config, Arc::clone(&tables));
        certificates.follow(&config, &scope);
        let workers = Workers::start(threads, &tables, &certificates, &common, &scope)?;
        let operators = Arc::new(Operators(Arc::clone(&tables)));
        let reloader = Reloader::new(config, tables, certificates, scope.clone());
        reloader.start();
        let rpc = rpc::Rpc::new(pools, metrics, reloader, scope.signer.clone());
        scope.ready.set(Ok(()));
        Ok(Assembly::default()
            .with_acceptor(Arc::new(workers))
            .with_operators(operators)
            .with_admin_grpc(GatewayServiceServer::new(rpc)))
    }
}

/// Checks what a file of API keys holds, as `auth.api_keys` names one.
///
/// # Errors
/// With what is wrong with it.
pub fn check_api_keys(text: &str) -> Result<(), String> {
    auth::check_keys(text)
}

/// The methods that are known: Weft's own, and those of the files that the configuration names.
fn methods(config: &Config) -> anyhow::Result<(Arc<Methods>, Contracts)> {
    let (mut methods, mut sets) = (Methods::weft().clone(), Vec::new());
    for file in &config.descriptor_sets {
        let bytes = std::fs::read(file).with_context(|| format!("descriptor_sets: {file} cannot be read"))?;
        let set = Methods::from_descriptor_set(&bytes);
        methods.extend(set.with_context(|| format!("descriptor_sets: {file} is no descriptor set"))?);
        sets.push((file, bytes));
    }
    Ok((Arc::new(methods), Contracts::new(&sets)?))
}
