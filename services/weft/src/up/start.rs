//! Ports, services, readiness; and the way back.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use futures::future::join_all;
use weft_runtime::{BindError, Config as _, Listeners, Running, Service};

use super::{
    Config,
    lock::Lock,
    replicas::{Launch, Replicas},
    site::Site,
    wiring::{Addresses, wire},
};

/// How long a service may take to become ready before the next one starts. With its backend there, it takes
/// milliseconds; without this, the next one would see it unready first, and warn of it.
const GET_READY: Duration = Duration::from_millis(500);

/// A mesh that is up.
#[derive(Debug)]
pub struct Mesh {
    /// Where clients call.
    pub gateway: SocketAddr,
    /// The gateway's admin port.
    pub admin: SocketAddr,
    services: Vec<Part>,
    _lock: Lock,
}

/// A service that is up.
#[derive(Debug)]
enum Part {
    /// In this process.
    Here(Running),
    /// In processes of its own.
    Apart(Replicas),
}

/// One place where a service is up.
#[derive(Debug)]
pub(super) struct Instance {
    /// The service, or the replica by its number.
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) ready: Result<(), String>,
    /// Its process, where that is not this one.
    pub(super) pid: Option<u32>,
}

/// The places of all services.
struct Bound {
    gateway: Listeners,
    cache: Site,
    database: Site,
    queue: Site,
    assets: Site,
}

/// Starts all five services in this process, but for those that the configuration gives replicas. They serve when this
/// returns, ready or not.
///
/// # Errors
/// When the data directory is in use, ports are taken (all of them are named), or a service cannot be assembled. Nothing
/// is left running then.
pub async fn up(mut config: Config) -> anyhow::Result<Mesh> {
    let lock = Lock::take(&config.data_dir)?;
    let bound = bind(&config).await?;
    let gateway = bound.gateway.address().context("the gateway has no address")?;
    let addresses = Addresses {
        cache: bound.cache.addresses(),
        database: bound.database.addresses(),
        queue: bound.queue.addresses(),
        assets: bound.assets.addresses(),
    };
    let admin = bound.gateway.admin.local_addr()?;
    wire(&mut config, &addresses);
    let mut services = Vec::new();
    // Boxed: it holds the configuration of every service.
    if let Err(error) = Box::pin(start(config, bound, &mut services)).await {
        stop(services).await;
        return Err(error);
    }
    Ok(Mesh { gateway, admin, services, _lock: lock })
}

/// Takes every port before anything starts.
async fn bind(config: &Config) -> anyhow::Result<Bound> {
    let count = |service| config.replicas.count(service);
    let (gateway, cache, database, queue, assets) = tokio::join!(
        Listeners::bind(&config.gateway),
        Site::take(&config.cache, count("cache")),
        Site::take(&config.database, count("database")),
        Site::take(&config.queue, count("queue")),
        Site::take(&config.assets, count("assets")),
    );
    let mut taken = Vec::new();
    let gateway = note(&mut taken, "gateway", gateway);
    let cache = note(&mut taken, "cache", cache);
    let database = note(&mut taken, "database", database);
    let queue = note(&mut taken, "queue", queue);
    let assets = note(&mut taken, "assets", assets);
    if let (Some(gateway), Some(cache), Some(database), Some(queue), Some(assets)) =
        (gateway, cache, database, queue, assets)
    {
        return Ok(Bound { gateway, cache, database, queue, assets });
    }
    bail!("cannot start; stop what listens there, or set other addresses:\n  {}", taken.join("\n  "))
}

fn note<T>(taken: &mut Vec<String>, section: &str, bound: Result<T, BindError>) -> Option<T> {
    bound.map_err(|error| taken.push(format!("{section}.{error}"))).ok()
}

/// Starts the services, those that others call first.
async fn start(config: Config, bound: Bound, services: &mut Vec<Part>) -> anyhow::Result<()> {
    let launch = |service, lifecycle: &weft_runtime::config::Lifecycle| -> anyhow::Result<Launch> {
        let configuration = config.replicas.configuration(service, &config)?;
        let log_format = config.telemetry.log_format;
        Ok(Launch { service, configuration, lifecycle: lifecycle.clone(), log_format })
    };
    let cache = launch("cache", config.cache.lifecycle())?;
    let assets = launch("assets", config.assets.lifecycle())?;
    let queue = launch("queue", config.queue.lifecycle())?;
    let database = launch("database", config.database.lifecycle())?;
    services.push(part::<weft_cache::Cache>(config.cache, bound.cache, cache).await?);
    services.push(part::<weft_assets::Assets>(config.assets, bound.assets, assets).await?);
    services.push(part::<weft_queue::Queue>(config.queue, bound.queue, queue).await?);
    services.push(part::<weft_database::Database>(config.database, bound.database, database).await?);
    services.push(one::<weft_gateway::Gateway>(config.gateway, bound.gateway).await?);
    Ok(())
}

/// Starts a service where it is to be.
async fn part<S: Service>(config: S::Config, site: Site, launch: Launch) -> anyhow::Result<Part> {
    let places = match site {
        Site::Here(listeners) => return one::<S>(config, listeners).await,
        Site::Apart(places) => places,
    };
    let started = Replicas::start(launch, places).await;
    let replicas = started.with_context(|| format!("cannot start the {}", S::NAME))?;
    let _ = tokio::time::timeout(GET_READY, replicas.wait_ready()).await;
    Ok(Part::Apart(replicas))
}

async fn one<S: Service>(config: S::Config, listeners: Listeners) -> anyhow::Result<Part> {
    // Boxed: the future that assembles a service is large.
    let started = Box::pin(weft_runtime::start::<S>(config, listeners)).await;
    let running = started.map_err(|error| anyhow!("cannot start the {}: {error:#}", S::NAME))?;
    let _ = tokio::time::timeout(GET_READY, running.wait_ready()).await;
    Ok(Part::Here(running))
}

/// The steps in which the services stop. The gateway, so that nothing new comes in, and with it the queue, which ends
/// the streams of those who watch jobs: they would keep the gateway waiting. Then what the queue's workers call.
const STOP_ORDER: [&[&str]; 4] = [&["gateway", "queue"], &["database"], &["assets"], &["cache"]];

async fn stop(mut services: Vec<Part>) {
    for step in STOP_ORDER {
        let now = services.extract_if(.., |part| step.contains(&part.name()));
        join_all(now.map(Part::stop)).await;
    }
}

impl Part {
    const fn name(&self) -> &'static str {
        match self {
            Self::Here(running) => running.name,
            Self::Apart(replicas) => replicas.service,
        }
    }

    async fn wait_ready(&self) {
        match self {
            Self::Here(running) => running.wait_ready().await,
            Self::Apart(replicas) => replicas.wait_ready().await,
        }
    }

    fn instances(&self) -> Vec<Instance> {
        match self {
            Self::Here(running) => vec![Instance {
                name: running.name.to_owned(),
                address: running.address,
                ready: running.ready(),
                pid: None,
            }],
            Self::Apart(replicas) => {
                let instance = |replica: &super::replicas::Replica| Instance {
                    name: replica.name.clone(),
                    address: replica.address,
                    ready: replica.ready(),
                    pid: replica.pid(),
                };
                replicas.list.iter().map(instance).collect()
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Here(running) => running.stop().await,
            Self::Apart(replicas) => replicas.stop().await,
        }
    }
}

impl Mesh {
    /// Returns when every service is ready, or when the time is over.
    pub async fn wait_ready(&self, limit: Duration) {
        let ready = join_all(self.services.iter().map(Part::wait_ready));
        let _ = tokio::time::timeout(limit, ready).await;
    }

    /// Where a service is up: once in this process, or as often as it has replicas.
    pub(super) fn service(&self, name: &str) -> Vec<Instance> {
        self.services.iter().filter(|part| part.name() == name).flat_map(Part::instances).collect()
    }

    /// Stops everything in order, each within its drain timeout.
    pub async fn stop(self) {
        stop(self.services).await;
    }
}
