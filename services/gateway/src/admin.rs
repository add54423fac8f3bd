//! The pools of a running gateway, and what may be changed about them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use weft_balance::{Backend, Thresholds};
use weft_mesh::{
    discovery::{self, Discovery, Sources, Target},
    pool::{Pool, Protocol, Settings},
    probe::{self, Check},
};
use weft_runtime::Scope;

use crate::{
    config::{self, HealthKind},
    error::Error,
};

/// A pool with what the gateway knows of it beyond its backends.
#[derive(Debug)]
pub struct Entry {
    /// Its backends, shared with every worker.
    pub pool: Arc<Pool>,
    /// As configured.
    pub config: config::Pool,
    /// Finds them.
    pub discovery: Discovery,
}

/// All pools by name.
#[derive(Clone, Debug)]
pub struct Pools(Arc<BTreeMap<String, Entry>>);

impl Pools {
    /// Builds the pools and starts discovery and health checks for them.
    pub(crate) fn start(config: &config::Config, scope: &Scope) -> Self {
        let mut entries = BTreeMap::new();
        let nameservers = &config.nameservers;
        for config in &config.pools {
            let pool = Pool::new(settings(config));
            let sources = sources(config, nameservers);
            let discovery = discovery::start(&pool, sources, &scope.tasks, scope.draining.clone());
            probe::start(&pool, &scope.tasks, scope.draining.clone());
            entries.insert(config.name.clone(), Entry { pool, config: config.clone(), discovery });
        }
        Self(Arc::new(entries))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    fn get(&self, name: &str) -> Result<&Entry, Error> {
        self.0.get(name).ok_or_else(|| Error::UnknownPool(name.to_owned()))
    }

    /// Adds a backend. It takes calls after its first passing check.
    ///
    /// # Errors
    /// An unknown pool, an address that is none or is there already, a weight out of range.
    pub fn add(&self, pool: &str, address: &str, weight: u32) -> Result<Arc<Backend>, Error> {
        let entry = self.get(pool)?;
        let address: SocketAddr = address.parse().map_err(|_| Error::Address(address.to_owned()))?;
        let backend = entry.pool.backends.add(&address.to_string(), if weight == 0 { 1 } else { weight })?;
        tracing::info!(pool, %address, weight, "backend added");
        entry.pool.changed();
        Ok(backend)
    }

    /// Removes a backend.
    ///
    /// # Errors
    /// An unknown pool or backend.
    pub fn remove(&self, pool: &str, address: &str) -> Result<(), Error> {
        let entry = self.get(pool)?;
        entry.pool.backends.remove(address)?;
        tracing::info!(pool, address, "backend removed");
        entry.pool.changed();
        Ok(())
    }

    /// Sets a backend's weight.
    ///
    /// # Errors
    /// An unknown pool or backend, a weight out of range.
    pub fn set_weight(&self, pool: &str, address: &str, weight: u32) -> Result<Arc<Backend>, Error> {
        let backend = self.get(pool)?.pool.backends.set_weight(address, weight)?;
        tracing::info!(pool, address, weight, "weight set");
        Ok(backend)
    }

    /// Drains a backend, or puts it back.
    ///
    /// # Errors
    /// An unknown pool or backend.
    pub fn set_draining(&self, pool: &str, address: &str, draining: bool) -> Result<Arc<Backend>, Error> {
        let backend = self.get(pool)?.pool.backends.set_draining(address, draining)?;
        tracing::info!(pool, address, draining, "drain state set");
        Ok(backend)
    }
}

fn sources(config: &config::Pool, nameservers: &[SocketAddr]) -> Sources {
    let targets = config.backends.iter();
    Sources {
        targets: targets
            .map(|b| Target { address: b.address.clone(), weight: b.weight, tier: b.tier })
            .collect(),
        file: config.backends_file.clone(),
        refresh: config.refresh,
        nameservers: nameservers.to_vec(),
    }
}

fn settings(config: &config::Pool) -> Settings {
    let protocol = match config.protocol {
        config::Protocol::Grpc => Protocol::Grpc,
        config::Protocol::Http => Protocol::Http,
    };
    let health = &config.health;
    let kind = health.kind.unwrap_or(match config.protocol {
        config::Protocol::Grpc => HealthKind::Grpc,
        config::Protocol::Http => HealthKind::Http,
    });
    Settings {
        name: config.name.clone(),
        protocol,
        check: match kind {
            HealthKind::Grpc => Check::Grpc { service: health.service.clone() },
            HealthKind::Http => Check::Http { path: health.path.clone() },
            HealthKind::Tcp => Check::Tcp,
            HealthKind::None => Check::None,
        },
        authority: health.authority.clone(),
        interval: health.interval,
        timeout: health.timeout,
        thresholds: Thresholds { healthy: health.healthy_threshold, unhealthy: health.unhealthy_threshold },
        balance: config.balance_settings(),
        retry: config.retry.policy(),
        budget: config.retry.budget(),
        waiting: config.waiting(),
    }
}
