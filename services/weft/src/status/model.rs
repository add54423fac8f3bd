//! What `weft status --json` prints; its keys only grow.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use weft_client::{GatewayStats, ServiceStats};
use weft_proto::gateway::v1::{Backend, Health};

use super::{assets::AssetsStats, cache::CacheStats, database::DatabaseStats, queue::QueueStats};

/// The gateway, and the services behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) gateway: Gateway,
    /// By pool.
    pub(super) services: Vec<Service>,
}

/// The gateway itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Gateway {
    pub(super) uptime_seconds: f64,
    pub(super) client_connections: u64,
    pub(super) calls: u64,
    pub(super) in_flight: u64,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Service {
    pub(super) pool: String,
    /// By address.
    pub(super) replicas: Vec<Replica>,
    pub(super) sum: Sum,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Replica {
    pub(super) address: String,
    /// The id of its process, on its own host.
    pub(super) pid: Option<u32>,
    pub(super) health: &'static str,
    pub(super) draining: bool,
    pub(super) weight: u32,
    pub(super) in_flight: u64,
    pub(super) calls: u64,
    pub(super) failures: u64,
    /// Why it is unhealthy, or did not answer.
    pub(super) error: Option<String>,
    pub(super) answered_in_seconds: f64,
    pub(super) stats: Option<Stats>,
}

/// All replicas of a pool together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sum {
    pub(super) replicas: usize,
    pub(super) healthy: usize,
    pub(super) in_flight: u64,
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) stats: Option<Stats>,
}

/// What a replica says of itself, or replicas together: counters are added; what all replicas see alike, such as the
/// depth of a shared queue, is not.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Stats {
    Cache(CacheStats),
    Database(DatabaseStats),
    Queue(QueueStats),
    Assets(AssetsStats),
    Other { r#type: String },
}

impl Status {
    /// Orders what the gateway says by pool, and sums each up.
    pub(super) fn new(gateway: &GatewayStats, replicas: Vec<weft_client::Replica>) -> Self {
        let gateway = Gateway {
            uptime_seconds: gateway.uptime.as_secs_f64(),
            client_connections: gateway.client_connections,
            calls: gateway.calls,
            in_flight: gateway.in_flight,
        };
        let mut pools: BTreeMap<String, Vec<Replica>> = BTreeMap::new();
        for replica in replicas {
            pools.entry(replica.pool.clone()).or_default().push(replica.into());
        }
        let services = pools.into_iter().map(|(pool, replicas)| {
            let sum = Sum::of(&replicas);
            Service { pool, replicas, sum }
        });
        Self { gateway, services: services.collect() }
    }
}

impl From<weft_client::Replica> for Replica {
    fn from(replica: weft_client::Replica) -> Self {
        let backend = replica.backend;
        let health = health(&backend);
        let pid = replica.stats.as_ref().ok().and_then(pid);
        let (stats, silence) = match replica.stats {
            Ok(stats) => (Some(stats.into()), None),
            Err(error) => (None, Some(error)),
        };
        let error = Some(backend.last_error).filter(|error| !error.is_empty()).or(silence);
        Self {
            address: backend.address,
            pid,
            health,
            draining: backend.draining,
            weight: backend.weight,
            in_flight: backend.in_flight,
            calls: backend.calls,
            failures: backend.failures,
            error,
            answered_in_seconds: replica.elapsed.as_secs_f64(),
            stats,
        }
    }
}

impl Sum {
    fn of(replicas: &[Replica]) -> Self {
        let mut sum = Self { replicas: replicas.len(), ..Self::default() };
        for replica in replicas {
            sum.healthy += usize::from(replica.health == "healthy");
            sum.in_flight += replica.in_flight;
            sum.calls += replica.calls;
            sum.failures += replica.failures;
            match (&mut sum.stats, &replica.stats) {
                (Some(sum), Some(stats)) => sum.join(stats),
                (empty @ None, Some(stats)) => *empty = Some(stats.clone()),
                (_, None) => {}
            }
        }
        sum
    }
}

impl Stats {
    fn join(&mut self, other: &Self) {
        match (self, other) {
            (Self::Cache(sum), Self::Cache(other)) => sum.join(other),
            (Self::Database(sum), Self::Database(other)) => sum.join(other),
            (Self::Queue(sum), Self::Queue(other)) => sum.join(other),
            (Self::Assets(sum), Self::Assets(other)) => sum.join(other),
            _ => {}
        }
    }
}

impl From<ServiceStats> for Stats {
    fn from(stats: ServiceStats) -> Self {
        match stats {
            ServiceStats::Cache(stats) => Self::Cache(stats.into()),
            ServiceStats::Database(stats) => Self::Database(stats.into()),
            ServiceStats::Queue(stats) => Self::Queue(stats.into()),
            ServiceStats::Assets(stats) => Self::Assets(stats.into()),
            ServiceStats::Other(name) => Self::Other { r#type: name },
        }
    }
}

/// What a backend's health is called.
pub(crate) fn health(backend: &Backend) -> &'static str {
    match backend.health() {
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
        Health::Unknown | Health::Unspecified => "unknown",
    }
}

/// The process that answered; older replicas do not say.
fn pid(stats: &ServiceStats) -> Option<u32> {
    let pid = match stats {
        ServiceStats::Cache(stats) => stats.pid,
        ServiceStats::Database(stats) => stats.pid,
        ServiceStats::Queue(stats) => stats.pid,
        ServiceStats::Assets(stats) => stats.pid,
        ServiceStats::Other(_) => 0,
    };
    (pid > 0).then_some(pid)
}

/// A length of time off the wire, in seconds.
pub(super) fn seconds(wire: Option<prost_types::Duration>) -> f64 {
    wire.and_then(|wire| Duration::try_from(wire).ok()).unwrap_or_default().as_secs_f64()
}

/// A share, where there is a whole.
pub(super) fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
