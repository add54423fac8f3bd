//! Finding the backends of a pool, again and again: addresses as they are written, names by DNS, and a file of either.
//!
//! What was found stays until something else is found: a name that does not resolve, an empty answer or a broken file
//! change nothing but [`Discovery::error`].

mod dns;
mod file;
mod table;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use weft_balance::{Backend, Desired, Origin};

use self::table::{Change, Found, Key, Place, Table, list};
use crate::pool::Pool;

/// A configured backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, where a name stands for every address it resolves to (A and AAAA), or `srv:_service._proto.name`,
    /// which stands for every host and port of its SRV records (RFC 2782).
    pub address: String,
    /// The weight of each of them, but of those of SRV records: they bring their own, and their priority as the tier.
    pub weight: u32,
    /// The priority of each of them.
    pub tier: u8,
}

/// What an address says of where backends are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Literal(SocketAddr),
    Name { host: String, port: u16 },
    Service(String),
}

impl Target {
    /// Whether an address can be one: `host:port` with a port other than 0, or `srv:` and a name.
    #[must_use]
    pub fn is_address(address: &str) -> bool {
        Kind::parse(address).is_some()
    }

    /// Whether it stands for SRV records, which bring their own weights.
    #[must_use]
    pub fn is_service(address: &str) -> bool {
        matches!(Kind::parse(address), Some(Kind::Service(_)))
    }
}

impl Kind {
    fn parse(address: &str) -> Option<Self> {
        let is_name = |name: &str| {
            !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "/@:[]".contains(c))
        };
        if let Some(service) = address.strip_prefix("srv:") {
            return is_name(service).then(|| Self::Service(service.to_owned()));
        }
        if let Ok(literal) = address.parse::<SocketAddr>() {
            return (literal.port() != 0).then_some(Self::Literal(literal));
        }
        let (host, port) = address.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_name(host).then(|| Self::Name { host: host.to_owned(), port })
    }
}

/// Where the backends of a pool are found.
#[derive(Clone, Debug)]
pub struct Sources {
    /// As configured.
    pub targets: Vec<Target>,
    /// A file with one target per line, `host:port [weight=N] [tier=N]`; read again when it changes.
    pub file: Option<PathBuf>,
    /// How long an answer of DNS is good for at the most; one with a shorter TTL is asked for again sooner, but at most
    /// once a second.
    pub refresh: Duration,
    /// The DNS servers to ask; if empty, those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
}

/// The running discovery of a pool.
#[derive(Clone, Debug)]
pub struct Discovery(Arc<Finder>);

impl Discovery {
    /// Why the last look at some source failed, in words; empty when all went well.
    #[must_use]
    pub fn error(&self) -> String {
        self.0.table().errors()
    }
}

/// Keeps a pool's list what its sources say, until `stopping`. Backends given by literal addresses are there when this
/// returns; a pool whose names do not resolve is empty until they do.
pub fn start(
    pool: &Arc<Pool>,
    sources: Sources,
    tasks: &TaskTracker,
    stopping: CancellationToken,
) -> Discovery {
    let Sources { targets, file, refresh, nameservers } = sources;
    let finder = Arc::new(Finder {
        pool: Arc::clone(pool),
        refresh,
        nameservers,
        tasks: tasks.clone(),
        stopping,
        table: Mutex::new(Table::new(file.is_some())),
    });
    finder.set(Place::Config, targets);
    if let Some(path) = file {
        finder.spawn(file::follow(Arc::clone(&finder), path));
    }
    Discovery(finder)
}

/// What the sources of one pool share.
#[derive(Debug)]
struct Finder {
    pool: Arc<Pool>,
    refresh: Duration,
    nameservers: Vec<SocketAddr>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    table: Mutex<Table>,
}

impl Finder {
    /// Replaces the targets of one place: names that are new are looked up, names that are gone are no longer.
    fn set(self: &Arc<Self>, place: Place, targets: Vec<Target>) {
        let mut table = self.table();
        for (key, stop) in table.set(place, targets, &self.stopping) {
            let look_up = dns::follow(Arc::clone(self), key);
            self.tasks.spawn(async move { stop.run_until_cancelled_owned(look_up).await });
        }
        self.publish(&table);
    }

    /// The file could not be read: what it said before stands.
    fn fail(&self, error: String) {
        tracing::warn!(pool = self.pool.name(), error, "the backends stay what they were");
        let mut table = self.table();
        table.fail(error);
        self.publish(&table);
    }

    /// Takes the answer for a name. Logs what goes wrong once, however often it does.
    fn found(&self, key: &Key, answer: Result<Vec<Found>, String>) {
        let (pool, name) = (self.pool.name(), &key.address);
        let mut table = self.table();
        match (table.found(key, answer), table.error(key)) {
            (true, Some(error)) => tracing::warn!(pool, name, error, "lookup failed"),
            (true, None) => tracing::info!(pool, name, "lookup succeeds again"),
            (false, _) => {}
        }
        self.publish(&table);
    }

    /// Brings the pool in line, the table locked so that two changes do not overtake each other.
    fn publish(&self, table: &Table) {
        let pool = &self.pool;
        let before = list(&pool.backends.list());
        let mut desired = table.desired();
        if !table.is_settled() {
            // Of a discovery that looked before this one: it counts until this one knows better.
            desired.extend(pool.backends.list().iter().filter_map(|backend| discovered(backend)));
        }
        // Before anybody connects to them.
        pool.name_backends(table.names());
        pool.backends.reconcile(&desired);
        let change = Change::between(&before, &list(&pool.backends.list()));
        if !change.is_empty() {
            // What the configuration says is no news when everything starts.
            if !(before.is_empty() && table.is_literal()) {
                change.log(pool.name());
            }
            pool.changed();
        }
        if table.is_settled() {
            pool.resolved.send_if_modified(|resolved| !std::mem::replace(resolved, true));
        }
    }

    fn spawn(&self, source: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move { stopping.run_until_cancelled_owned(source).await });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backend that was found, as it is.
fn discovered(backend: &Backend) -> Option<Desired> {
    let (address, origin) = (backend.address().to_owned(), backend.origin());
    let desired = Desired { address, weight: backend.weight(), tier: backend.tier(), origin };
    (origin == Origin::Discovered).then_some(desired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in
            ["127.0.0.1:1", "[::1]:443", "cache:7101", "a.b-c.svc.cluster.local:65535", "srv:_g._tcp.a"]
        {
            assert!(Target::is_address(good), "{good}");
        }
        for bad in [
            "",
            ":1",
            "cache",
            "cache:",
            "cache:0",
            "cache:65536",
            "http://cache:1",
            "a b:1",
            "u@h:1",
            "::1:443",
            "[::1]:0",
            "[x]:1",
            "srv:",
            "srv:a:1",
        ] {
            assert!(!Target::is_address(bad), "{bad}");
        }
        assert!(Target::is_service("srv:_grpc._tcp.cache") && !Target::is_service("cache:1"));
    }
}
