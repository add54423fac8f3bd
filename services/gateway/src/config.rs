//! Listeners, pools and routes.

mod auth;
mod balance;
mod check;
mod models;
mod rate;
mod route;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_mesh::tls;
use weft_runtime::config::{Admin, Keys, Lifecycle, Origin, Problems, Telemetry, duration};

pub use auth::{Auth, CertificateHolder, Issuer, Permission};
pub(crate) use balance::HashOn;
pub use balance::{Balance, Outlier, Panic, Retry, SlowStart};
pub use models::Models;
pub(crate) use rate::RateKey;
pub use rate::RateLimit;
pub use route::{Cors, HeaderMatch, Priority, Redirect, Rewrite, Route};

/// The gateway's configuration. The default routes Weft's own services at their default ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Worker threads, each with its own connections to every backend. Default 0: one per core.
    pub workers: usize,
    /// Where clients connect. Default: one, `127.0.0.1:7080`.
    pub listeners: Vec<Listener>,
    /// The admin port: probes, metrics, `GatewayService`. Default `127.0.0.1:7090`.
    pub admin: Admin,
    /// Limits of the process, and how it stops.
    pub lifecycle: Lifecycle,
    /// What it tells of itself.
    pub telemetry: Telemetry,
    /// Who is believed to be whom, and who may call what. Default: nobody is asked.
    pub auth: Auth,
    /// The key with which it tells services who calls, and those that it believes itself. Default: none.
    pub identity: Keys,
    /// Networks of proxies before this one, such as `10.0.0.0/8`, or single addresses: what they say of a client
    /// (`X-Forwarded-For` and the like) is passed on; from anybody else it is taken for a lie. Default: none.
    pub trusted_proxies: Vec<String>,
    /// DNS servers that resolve the backends' names. Default: none, which means those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
    /// Sets of interchangeable backends. Default: Weft's services at their default ports.
    pub pools: Vec<Pool>,
    /// Which calls go to which pool. Default: Weft's services and the asset paths.
    pub routes: Vec<Route>,
    /// Files with an encoded `google.protobuf.FileDescriptorSet`, such as `buf build -o` writes. Methods that they
    /// declare with an `idempotency_level` may be sent again after they may have been executed; those of Weft's own
    /// contracts are known without a file. Default: none.
    pub descriptor_sets: Vec<String>,
    /// What happens when there is more to do than can be done.
    pub overload: Overload,
    /// Where to write one JSON line for each call: `stdout`, or a file that is appended to and opened anew when it was
    /// moved away. Default: none.
    pub access_log: Option<String>,
    /// How changes of the file are taken over.
    pub reload: Reload,
    /// The file, when it was read from one.
    #[serde(skip)]
    pub origin: Option<Origin<Self>>,
}

/// A network, or the one of a single address.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Config {
    /// The service of Weft that a pool's backends are.
    pub(crate) fn audience(&self, pool: &Pool) -> Option<String> {
        if let Some(identity) = &pool.identity {
            return Some(identity.clone()).filter(|identity| !identity.is_empty());
        }
        let services = self.routes.iter().filter(|route| route.pool == pool.name);
        services.filter_map(|route| weft_service(route.grpc_service.as_deref()?)).next().map(str::to_owned)
    }
}

/// The service in a pattern for its contracts: `weft.<service>.…`.
fn weft_service(pattern: &str) -> Option<&str> {
    pattern.strip_prefix("weft.")?.split_once('.').map(|(service, _)| service)
}

/// How changes of the configuration file are taken over while the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// How often the file is looked at; a change counts when it is the same at two looks. Default 1 s: soon enough for
    /// whoever has just saved it, and a read of a small file costs nothing.
    #[serde(with = "duration")]
    pub interval: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1) }
    }
}

/// Limits that shed load early. Those of connections, streams and calls stand under `lifecycle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overload {
    /// The share of `lifecycle.max_in_flight`, in percent, beyond which calls of priority `batch` are refused, so that
    /// interactive ones still find room. Default 80.
    pub batch_percent: u8,
    /// The largest request body in bytes; 0 for any size. Counted as it passes, never buffered. Default 0: the services
    /// have limits of their own.
    pub max_request_bytes: u64,
}

impl Default for Overload {
    fn default() -> Self {
        Self { batch_percent: 80, max_request_bytes: 0 }
    }
}

/// An address clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `host:port`.
    pub address: String,
    /// How connections are secured. Default: not at all.
    #[serde(default)]
    pub tls: Option<tls::Server>,
}

impl Listener {
    /// One without TLS.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned(), tls: None }
    }
}

/// What a pool's backends speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC: HTTP/2 with prior knowledge.
    #[default]
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// A named set of interchangeable backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// What routes and administration call it.
    pub name: String,
    /// `grpc` (the default) or `http`.
    pub protocol: Protocol,
    /// The service of Weft that its backends are: they are told who calls in a way that can be believed, where
    /// `identity.key` is set; others are told the user's name in `weft-user`. Default: as routes for `weft.<service>.v1`
    /// lead to it; empty for none.
    pub identity: Option<String>,
    /// How connections to its backends are secured, health checks included. Default: not at all.
    pub tls: Option<tls::Client>,
    /// `least_connections` (the default), `round_robin`, `peak_ewma` or `rendezvous`.
    pub balance: Balance,
    /// What `rendezvous` keeps together: `header:<name>` (gRPC metadata are headers) or `cookie:<name>`. Calls without
    /// it go by least connections. Default: none.
    pub hash_on: Option<String>,
    /// How much more than its share a backend may have in flight with `rendezvous`. Default 1.25.
    pub hash_balance_factor: f64,
    /// Calls in flight to each backend; further ones wait for room. Default 0: no limit.
    pub max_in_flight: u64,
    /// Calls that may wait for room; further ones answer RESOURCE_EXHAUSTED. Default 128.
    pub max_waiting: usize,
    /// How long each may wait. Default 3 s.
    #[serde(with = "duration")]
    pub max_wait: Duration,
    /// How much more than its normal load a tier can take: the rest goes to the next one when fewer of its backends are
    /// available. Default 1.4.
    pub overprovisioning_factor: f64,
    /// How many picks are remembered for `ExplainPick`. Default 256.
    pub recorded_picks: usize,
    /// How a backend that returns is warmed up.
    pub slow_start: SlowStart,
    /// When backends that fail their checks are better than none.
    pub panic: Panic,
    /// When a backend is ejected for how calls to it end.
    pub outlier: Outlier,
    /// When a call is sent again.
    pub retry: Retry,
    /// Its backends.
    pub backends: Vec<Backend>,
    /// A file of further backends, one `host:port [weight=N] [tier=N]` per line; read again within a second of a change.
    /// Default: none.
    pub backends_file: Option<PathBuf>,
    /// How they are checked.
    pub health: Health,
    /// How long DNS is believed at the most: names are resolved again when the TTL of their records is over, but not
    /// more often than once a second and not later than this. Default 5 s, the usual TTL of a cluster's DNS.
    #[serde(with = "duration")]
    pub refresh: Duration,
    /// How long a call may take when its client sets no deadline. Default 1 h, which suits the longest streams.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How long a response may go on before it ends as UNAVAILABLE, reason `STREAM_AGE`, for its client to open it again:
    /// so that long streams move to replicas that came later. Up to a tenth sooner or later each, so that streams that
    /// began together do not end together. Default `0s`: for any time.
    #[serde(with = "duration")]
    pub max_stream_age: Duration,
    /// After how much silence an HTTP/2 connection with calls in flight is tried with a PING, to be given up when none
    /// comes back within 10 s. A host that is gone is noticed without it, a process that hangs by its checks; gRPC's own
    /// servers end connections with more than one PING in five minutes. Default `0s`: none.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// `package.Service/Method` that a backend answers with its statistics; `GatewayService.GetStats` collects them.
    /// Default: none.
    pub stats_method: Option<String>,
    /// Which models its servers serve. Default: none, they are no model servers.
    pub models: Option<Models>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            name: String::new(),
            protocol: Protocol::default(),
            identity: None,
            tls: None,
            balance: Balance::default(),
            hash_on: None,
            hash_balance_factor: 1.25,
            max_in_flight: 0,
            max_waiting: 128,
            max_wait: Duration::from_secs(3),
            overprovisioning_factor: 1.4,
            recorded_picks: 256,
            slow_start: SlowStart::default(),
            panic: Panic::default(),
            outlier: Outlier::default(),
            retry: Retry::default(),
            backends: Vec::new(),
            backends_file: None,
            health: Health::default(),
            refresh: Duration::from_secs(5),
            timeout: Duration::from_secs(3600),
            max_stream_age: Duration::ZERO,
            ping_interval: Duration::ZERO,
            stats_method: None,
            models: None,
        }
    }
}

/// One backend, or all that a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// `host:port`, or `srv:_service._proto.name` for the hosts and ports of SRV records.
    pub address: String,
    /// Its share of the calls relative to the others, 1 to 1000. Default 1. SRV records bring their own.
    #[serde(default = "one")]
    pub weight: u32,
    /// Its priority: calls go to the lowest tier that is well and has room. Default 0.
    #[serde(default)]
    pub tier: u8,
}

const fn one() -> u32 {
    1
}

/// What a health check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthKind {
    /// `grpc.health.v1.Health`: `Watch` where it is served, else `Check`.
    Grpc,
    /// `GET` of `path`; 2xx is healthy.
    Http,
    /// A connection.
    Tcp,
    /// Nothing.
    None,
}

/// How a pool's backends are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `grpc`, `http`, `tcp` or `none`. Default: what the pool's protocol is.
    pub kind: Option<HealthKind>,
    /// What an HTTP check asks for. Default `/health`.
    pub path: String,
    /// Which service a gRPC check asks for. Default: empty, the whole server.
    pub service: String,
    /// What a check addresses the backend by: `:authority` or `Host`. Default: none, the backend's own address.
    pub authority: Option<String>,
    /// How often. Default 30 s; a backend that refuses a connection is noticed at once anyway.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long a check may take. Default 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Passed checks in a row that bring a backend back. Default 2.
    pub healthy_threshold: u32,
    /// Failed checks in a row that take a backend out. Default 2.
    pub unhealthy_threshold: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            kind: None,
            path: "/health".to_owned(),
            service: String::new(),
            authority: None,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let pool = |name: &str, protocol, address: &str, stats: Option<&str>| Pool {
            name: name.to_owned(),
            protocol,
            backends: vec![Backend { address: address.to_owned(), weight: 1, tier: 0 }],
            stats_method: stats.map(str::to_owned),
            ..Pool::default()
        };
        Self {
            workers: 0,
            listeners: vec![Listener::at("127.0.0.1:7080")],
            admin: Admin::at("127.0.0.1:7090"),
            lifecycle: Lifecycle { max_connection_age: Duration::from_secs(30 * 60), ..Lifecycle::default() },
            telemetry: Telemetry::default(),
            auth: Auth::default(),
            identity: Keys::default(),
            trusted_proxies: Vec::new(),
            nameservers: Vec::new(),
            pools: vec![
                pool("cache", Protocol::Grpc, "127.0.0.1:7101", Some("weft.cache.v1.CacheService/GetStats")),
                pool(
                    "database",
                    Protocol::Grpc,
                    "127.0.0.1:7102",
                    Some("weft.database.v1.InsightService/GetStats"),
                ),
                pool("queue", Protocol::Grpc, "127.0.0.1:7103", Some("weft.queue.v1.QueueService/GetStats")),
                pool(
                    "assets",
                    Protocol::Grpc,
                    "127.0.0.1:7104",
                    Some("weft.assets.v1.AssetService/GetStats"),
                ),
                Pool {
                    identity: Some("assets".to_owned()),
                    ..pool("assets-http", Protocol::Http, "127.0.0.1:7104", None)
                },
            ],
            routes: default_routes(),
            descriptor_sets: Vec::new(),
            overload: Overload::default(),
            access_log: None,
            reload: Reload::default(),
            origin: None,
        }
    }
}

/// Weft's services, and the paths of assets.
fn default_routes() -> Vec<Route> {
    vec![
        Route::grpc("weft.cache.v1.*", "cache"),
        Route::grpc("weft.database.v1.*", "database"),
        Route::grpc("weft.queue.v1.*", "queue"),
        Route::grpc("weft.assets.v1.*", "assets"),
        // Every service reflects every contract, so any of them can answer for all.
        Route::grpc("grpc.reflection.*", "database"),
        Route::path("/assets/", "assets-http"),
        Route::path("/files/", "assets-http"),
    ]
}

impl weft_runtime::Config for Config {
    fn address(&self) -> Option<&str> {
        None
    }

    fn addresses(&self) -> Vec<(String, String)> {
        let listeners = self.listeners.iter().enumerate();
        listeners.map(|(i, listener)| (format!("listeners[{i}].address"), listener.address.clone())).collect()
    }

    fn admin(&self) -> &Admin {
        &self.admin
    }

    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn identity(&self) -> &Keys {
        &self.identity
    }

    fn authenticates(&self) -> bool {
        self.auth.is_configured()
    }

    fn remember(&mut self, origin: Origin<Self>) {
        self.origin = Some(origin);
    }

    fn validate(&self, problems: &mut Problems) {
        check::validate(self, problems);
    }
}
