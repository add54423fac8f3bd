//! Ports, services, readiness; and the way back.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use weft_runtime::{BindError, Listeners, Running, Service};

use super::{
    Config,
    lock::Lock,
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
    services: Vec<Running>,
    _lock: Lock,
}

/// The sockets of all services.
struct Bound {
    gateway: Listeners,
    cache: Listeners,
    database: Listeners,
    queue: Listeners,
    assets: Listeners,
}

/// Starts all five services in this process. They serve when this returns, ready or not.
///
/// # Errors
/// When the data directory is in use, ports are taken (all of them are named), or a service cannot be assembled. Nothing
/// is left running then.
pub async fn up(mut config: Config) -> anyhow::Result<Mesh> {
    let lock = Lock::take(&config.data_dir)?;
    let bound = bind(&config).await?;
    let at = |listeners: &Listeners| listeners.address().context("a service has no address");
    let gateway = at(&bound.gateway)?;
    let addresses = Addresses {
        cache: at(&bound.cache)?,
        database: at(&bound.database)?,
        queue: at(&bound.queue)?,
        assets: at(&bound.assets)?,
    };
    let admin = bound.gateway.admin.local_addr()?;
    wire(&mut config, addresses);
    let mut services = Vec::new();
    if let Err(error) = start(config, bound, &mut services).await {
        stop(services).await;
        return Err(error);
    }
    Ok(Mesh { gateway, admin, services, _lock: lock })
}

/// Binds every port before anything starts.
async fn bind(config: &Config) -> anyhow::Result<Bound> {
    let (gateway, cache, database, queue, assets) = tokio::join!(
        Listeners::bind(&config.gateway),
        Listeners::bind(&config.cache),
        Listeners::bind(&config.database),
        Listeners::bind(&config.queue),
        Listeners::bind(&config.assets),
    );
    let mut taken = Vec::new();
    let mut note = |section: &str, bound: Result<Listeners, BindError>| {
        bound.map_err(|error| taken.push(format!("{section}.{error}"))).ok()
    };
    let bound = (
        note("gateway", gateway),
        note("cache", cache),
        note("database", database),
        note("queue", queue),
        note("assets", assets),
    );
    if let (Some(gateway), Some(cache), Some(database), Some(queue), Some(assets)) = bound {
        return Ok(Bound { gateway, cache, database, queue, assets });
    }
    bail!("cannot start; stop what listens there, or set other addresses:\n  {}", taken.join("\n  "))
}

/// Starts the services, those that others call first.
async fn start(config: Config, bound: Bound, services: &mut Vec<Running>) -> anyhow::Result<()> {
    services.push(one::<weft_cache::Cache>(config.cache, bound.cache).await?);
    services.push(one::<weft_assets::Assets>(config.assets, bound.assets).await?);
    services.push(one::<weft_queue::Queue>(config.queue, bound.queue).await?);
    services.push(one::<weft_database::Database>(config.database, bound.database).await?);
    services.push(one::<weft_gateway::Gateway>(config.gateway, bound.gateway).await?);
    Ok(())
}

async fn one<S: Service>(config: S::Config, listeners: Listeners) -> anyhow::Result<Running> {
    // Boxed: the future that assembles a service is large.
    let started = Box::pin(weft_runtime::start::<S>(config, listeners)).await;
    let running = started.map_err(|error| anyhow!("cannot start the {}: {error:#}", S::NAME))?;
    let _ = tokio::time::timeout(GET_READY, running.wait_ready()).await;
    Ok(running)
}

/// The steps in which the services stop. The gateway, so that nothing new comes in, and with it the queue, which ends
/// the streams of those who watch jobs: they would keep the gateway waiting. Then what the queue's workers call.
const STOP_ORDER: [&[&str]; 4] = [&["gateway", "queue"], &["database"], &["assets"], &["cache"]];

async fn stop(mut services: Vec<Running>) {
    for step in STOP_ORDER {
        let now = services.extract_if(.., |running| step.contains(&running.name));
        futures::future::join_all(now.map(Running::stop)).await;
    }
}

impl Mesh {
    /// Returns when every service is ready, or when the time is over.
    pub async fn wait_ready(&self, limit: Duration) {
        let ready = futures::future::join_all(self.services.iter().map(Running::wait_ready));
        let _ = tokio::time::timeout(limit, ready).await;
    }

    /// Where a service listens, and whether it is ready.
    pub(super) fn service(&self, name: &str) -> Option<(SocketAddr, Result<(), String>)> {
        let running = self.services.iter().find(|running| running.name == name)?;
        Some((running.address, running.ready()))
    }

    /// Stops everything in order, each within its drain timeout.
    pub async fn stop(self) {
        stop(self.services).await;
    }
}
