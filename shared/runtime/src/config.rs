//! Typed configuration: defaults, then the names operators already have, one TOML file, and the environment.
//!
//! Every service's struct derives serde with `#[serde(default)]`; its defaults are its `Default`. Unknown keys are
//! refused, and all problems are reported at once, before anything binds.

mod load;
mod origin;
mod secret;

use std::{fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
pub use weft_mesh::{duration, identity::Keys};

pub(crate) use load::passed_sockets;
pub use load::{Sources, render};
pub use origin::Origin;
pub use secret::Secret;

/// The configuration of a service.
pub trait Config: DeserializeOwned + Serialize + Default + Clone + Send + Sync + 'static {
    /// Where it listens for calls, as `(key, address)`. Most have one address.
    fn addresses(&self) -> Vec<(String, String)> {
        self.address().map(|address| ("address".to_owned(), address.to_owned())).into_iter().collect()
    }

    /// Where it listens for calls; `None` when [`addresses`](Self::addresses) says.
    fn address(&self) -> Option<&str>;

    /// Its admin port.
    fn admin(&self) -> &Admin;

    /// Its limits and how it stops.
    fn lifecycle(&self) -> &Lifecycle;

    /// What it tells of itself.
    fn telemetry(&self) -> &Telemetry;

    /// The keys by which services believe each other, and the gateway, who calls. Default: none.
    fn identity(&self) -> &Keys {
        static NONE: Keys = Keys { key: None, create: false, trusted: Vec::new() };
        &NONE
    }

    /// Whether callers are authenticated, so that it may listen on other addresses than loopback.
    fn authenticates(&self) -> bool {
        self.identity().are_configured()
    }

    /// Environment variables operators already have, and the dotted keys they set: `("REDIS_URL", "redis.url")`.
    #[must_use]
    fn operator_names() -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Takes note of where it came from, for a service that reads it again while it runs.
    fn remember(&mut self, _origin: Origin<Self>) {}

    /// Reports everything that is wrong with the values.
    fn validate(&self, problems: &mut Problems);
}

/// The admin port: health, probes, metrics, and for the gateway its administration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// `host:port`. Default: loopback, the service's port + 100.
    pub address: String,
    /// Whether `/metrics` is for operators only, where callers are authenticated. Default false: what scrapes it has
    /// no identity.
    pub authenticate_metrics: bool,
}

impl Admin {
    /// An admin port at an address.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned(), authenticate_metrics: false }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self::at("127.0.0.1:0")
    }
}

/// Limits of a process, and how it stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// Listen on addresses other than loopback although nobody is authenticated. Default false.
    pub insecure: bool,
    /// How long to go on serving after a stop signal, unready, so that load balancers notice. Default 0 s; a few
    /// seconds in a cluster.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// How long calls in flight may take to end after that. Default 10 s.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Client connections at once; further ones wait to be accepted. Default 10,000.
    pub max_connections: usize,
    /// Calls at once over all connections; further ones answer RESOURCE_EXHAUSTED. Default 10,000.
    pub max_in_flight: usize,
    /// Calls at once on one connection. Default 1024.
    pub max_concurrent_streams: u32,
    /// All headers of a request together, in bytes; more are refused with 431.
    /// Default 64 KiB, room for the cookies of a single sign-on; at least 8 KiB, at most 1 MiB.
    pub max_header_bytes: usize,
    /// How old a connection may become, ± 10 %: then its client is told to make another, which may reach another
    /// replica. Default 0 s, never, but 30 min for the gateway, whose clients balance by nothing else.
    #[serde(with = "duration")]
    pub max_connection_age: Duration,
    /// How long calls may go on after that; then they are ended with UNAVAILABLE. Default 10 min: longer than a
    /// model's answer, short enough for an old replica to be rid of them.
    #[serde(with = "duration")]
    pub max_connection_grace: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            insecure: false,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_in_flight: 10_000,
            max_concurrent_streams: 1024,
            max_header_bytes: 64 * 1024,
            max_connection_age: Duration::ZERO,
            max_connection_grace: Duration::from_secs(600),
        }
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line, for collectors.
    Json,
}

/// What a process tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// Which log lines to write, as `target=level` directives. Default `info,lapin=off`: what that client of RabbitMQ
    /// calls an error is often none, and what is one is told by who uses it.
    pub log: String,
    /// `pretty` (the default) or `json`.
    pub log_format: LogFormat,
    /// OTLP/gRPC endpoint to send traces to, such as `http://127.0.0.1:4317`. Default: none, traces are not recorded.
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` sets it too.
    pub otlp_endpoint: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info,lapin=off".to_owned(), log_format: LogFormat::default(), otlp_endpoint: None }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Default)]
pub struct Problems {
    prefix: String,
    list: Vec<String>,
}

impl Problems {
    /// Problems of one section, whose name goes before every key.
    #[must_use]
    pub fn of(section: &str) -> Self {
        let prefix = if section.is_empty() { String::new() } else { format!("{section}.") };
        Self { prefix, list: Vec::new() }
    }

    /// Reports a key and what is wrong with it.
    pub fn push(&mut self, key: impl fmt::Display, problem: impl fmt::Display) {
        self.list.push(format!("{}{key}: {problem}", self.prefix));
    }

    /// Reports a key that is not as `condition` requires.
    pub fn require(&mut self, condition: bool, key: &str, problem: impl fmt::Display) {
        if !condition {
            self.push(key, problem);
        }
    }

    /// Takes over the problems of another section.
    pub fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// When there are problems.
    pub fn into_result(self) -> Result<(), ConfigError> {
        if self.list.is_empty() { Ok(()) } else { Err(ConfigError { problems: self.list }) }
    }
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// One line each, the key first.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// Checks what all services have alike.
pub(crate) fn validate_common<C: Config>(config: &C, problems: &mut Problems) {
    let insecure = config.lifecycle().insecure || config.authenticates();
    let admin = ("admin.address".to_owned(), config.admin().address.clone());
    for (key, address) in config.addresses().into_iter().chain([admin]) {
        match address.parse::<SocketAddr>() {
            Err(_) => {
                problems.push(key, format!("\"{address}\" is not an address such as \"127.0.0.1:7080\""));
            }
            Ok(parsed) if !parsed.ip().is_loopback() && !insecure => {
                problems.push(key, format!("{address} is not loopback, and nobody is authenticated: configure who may call, or pass --insecure to serve it all the same"));
            }
            Ok(_) => {}
        }
    }
    let lifecycle = config.lifecycle();
    for (key, value) in [
        ("lifecycle.max_connections", lifecycle.max_connections),
        ("lifecycle.max_in_flight", lifecycle.max_in_flight),
        ("lifecycle.max_concurrent_streams", lifecycle.max_concurrent_streams as usize),
    ] {
        problems.require(value > 0, key, "must be at least 1");
    }
    let headers = (8 * 1024..=1024 * 1024).contains(&lifecycle.max_header_bytes);
    problems.require(headers, "lifecycle.max_header_bytes", "must be 8192 to 1048576");
    if let Err(error) = config.identity().check() {
        problems.push("identity", error);
    }
    if let Err(error) = config.telemetry().log.parse::<tracing_subscriber::EnvFilter>() {
        problems.push("telemetry.log", error);
    }
}
