//! Discovery and health checks against real sockets: a DNS server, files, and backends that change their mind.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod dns;
mod file;
mod grpc_health;
mod http_health;
mod server;

use std::{sync::Arc, time::Duration};

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use weft_balance::Health;
use weft_mesh::{
    discovery::{self, Discovery, Sources, Target},
    methods::Methods,
    pool::{Pool, Protocol, Settings},
    probe::{self, Check},
};

/// How long a test waits for what must come: long on a busy machine, and shorter than the interval of checks that must
/// not be what brought it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A pool that is looked after until it is dropped.
pub(crate) struct Fixture {
    pub(crate) pool: Arc<Pool>,
    pub(crate) discovery: Discovery,
    pub(crate) tasks: TaskTracker,
    _stop: DropGuard,
}

pub(crate) fn settings(check: Check) -> Settings {
    Settings { interval: Duration::from_secs(60), ..Settings::new("test", Protocol::Grpc, check) }
}

pub(crate) fn sources(targets: &[String]) -> Sources {
    let target = |address: &String| Target { address: address.clone(), weight: 1, tier: 0 };
    Sources {
        targets: targets.iter().map(target).collect(),
        file: None,
        refresh: Duration::from_secs(3600),
        nameservers: Vec::new(),
    }
}

impl Fixture {
    /// Only found, not checked.
    pub(crate) fn found(sources: Sources) -> Self {
        let (pool, tasks, stop) =
            (Pool::new(settings(Check::None), Methods::weft()), TaskTracker::new(), CancellationToken::new());
        let discovery = discovery::start(&pool, sources, &tasks, stop.clone());
        Self { pool, discovery, tasks, _stop: stop.drop_guard() }
    }

    /// One backend, checked.
    pub(crate) fn checked(address: std::net::SocketAddr, settings: Settings) -> Self {
        let (pool, tasks, stop) =
            (Pool::new(settings, Methods::weft()), TaskTracker::new(), CancellationToken::new());
        let discovery = discovery::start(&pool, sources(&[address.to_string()]), &tasks, stop.clone());
        probe::start(&pool, &tasks, stop.clone());
        Self { pool, discovery, tasks, _stop: stop.drop_guard() }
    }

    /// Addresses and weights, sorted.
    pub(crate) fn list(&self) -> Vec<(String, u32)> {
        let list = self.pool.backends.list();
        let mut list: Vec<_> = list.iter().map(|one| (one.address().to_owned(), one.weight())).collect();
        list.sort();
        list
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.list().into_iter().map(|(address, _)| address).collect()
    }

    pub(crate) async fn until_addresses(&self, expected: &[&str]) {
        weft_testkit::eventually(SOON, || async { self.addresses() == expected }).await;
    }

    /// The health of the only backend.
    pub(crate) fn health(&self) -> Health {
        self.pool.backends.list()[0].health()
    }

    pub(crate) async fn until_health(&self, expected: Health) {
        weft_testkit::eventually(SOON, || async { self.health() == expected }).await;
    }
}
