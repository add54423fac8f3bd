//! The service's settings.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use weft_mesh::Peer;
use weft_runtime::config::{Admin, Keys, Lifecycle, Problems, Secret, Telemetry, duration};

use crate::{
    failpoint::Point,
    repository::{postgres::PostgresOptions, sqlite::SqliteOptions},
};

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where gRPC is served. Default `127.0.0.1:7102`.
    pub address: String,
    /// Where metrics and probes are served. Default `127.0.0.1:7202`.
    pub admin: Admin,
    /// Limits and the order of stopping.
    pub lifecycle: Lifecycle,
    /// Logs, traces and metrics.
    pub telemetry: Telemetry,
    /// The keys by which it believes who calls, and signs its own calls. Default: none, everybody is believed.
    pub identity: Keys,
    /// Where the embedded database lives. Default `.weft/database`.
    pub data_dir: PathBuf,
    /// The database itself.
    pub database: Database,
    /// The cache service. No addresses mean that every read goes to the database, and that nothing is invalidated.
    /// Default `127.0.0.1:7101`, with 250 ms a call: beyond that the database is the faster way.
    pub cache: Peer,
    /// The queue service. Without addresses, jobs wait in the outbox. Default `127.0.0.1:7103`.
    pub queue: Peer,
    /// What owed effects are relayed by.
    pub outbox: Outbox,
    /// What is noted of queries.
    pub insight: Insight,
    /// For tests of crashes: where the process dies. Refused by release builds.
    pub failpoint: Option<Point>,
}

/// The database itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Database {
    /// `sqlite:<path>` or `postgres://user:password@host:port/database`; also read from `DATABASE_URL`. Not set by
    /// default, which means `sqlite:<data_dir>/weft.db`.
    pub url: Option<Secret>,
    /// PostgreSQL: connections at most, at least 1; also read from `DATABASE_POOL_SIZE`. Default 50: two replicas stay
    /// within a server's default limit of 100.
    pub pool_max: u32,
    /// PostgreSQL: connections kept open. Default 10, so that a burst after a quiet time does not wait for connections.
    pub pool_min: u32,
    /// PostgreSQL: idle connections above the minimum are closed after this. Default `30s`.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long a call waits for a connection. Default `10s`; a caller's earlier deadline ends it too.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// How long one query may take. Default `30s`: nothing here needs more, and a lost caller must not hold a
    /// connection for ever.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// SQLite: connections for reading, 1 to 64. Default 4: more only contend for the same locks.
    pub readers: u32,
    /// SQLite: flush every group of commits to the disk. Default false: what was acknowledged survives the death of
    /// the process in any case; with true it survives a power cut as well, at one flush per group.
    pub flush: bool,
}

/// What owed effects are relayed by.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Outbox {
    /// How often the outbox is looked at for what other replicas, or an earlier life of this one, left behind.
    /// Default `1s`.
    #[serde(with = "duration")]
    pub poll: Duration,
    /// How long a write waits for its job to be published and its cache entries to go, before it answers all the same.
    /// Default `1s`.
    #[serde(with = "duration")]
    pub patience: Duration,
}

/// What is noted of queries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Insight {
    /// Queries that take longer are logged, and listed by ListSlowQueries. Default `100ms`.
    #[serde(with = "duration")]
    pub slow_query: Duration,
}

/// Which database is meant.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A file.
    Sqlite(SqliteOptions),
    /// A server.
    Postgres(PostgresOptions),
}

impl Default for Config {
    fn default() -> Self {
        let cache = Peer { timeout: Duration::from_millis(250), ..Peer::at(["127.0.0.1:7101"]) };
        Self {
            address: "127.0.0.1:7102".to_owned(),
            admin: Admin::at("127.0.0.1:7202"),
            lifecycle: Lifecycle::default(),
            telemetry: Telemetry::default(),
            identity: Keys::default(),
            data_dir: PathBuf::from(".weft/database"),
            database: Database::default(),
            cache,
            queue: Peer::at(["127.0.0.1:7103"]),
            outbox: Outbox::default(),
            insight: Insight::default(),
            failpoint: None,
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            pool_max: 50,
            pool_min: 10,
            idle_timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            readers: 4,
            flush: false,
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { poll: Duration::from_secs(1), patience: Duration::from_secs(1) }
    }
}

impl Default for Insight {
    fn default() -> Self {
        Self { slow_query: Duration::from_millis(100) }
    }
}

impl Config {
    /// The database that the URL means; `None` when it means none.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        let database = &self.database;
        let url = database.url.as_ref().map(|url| url.expose().to_owned());
        let url = url.filter(|url| !url.is_empty());
        let path = match &url {
            None => self.data_dir.join("weft.db"),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                return Some(Backend::Postgres(self.postgres(url)));
            }
            Some(url) => {
                let path = url.strip_prefix("sqlite:")?;
                PathBuf::from(path.strip_prefix("//").unwrap_or(path))
            }
        };
        if path.as_os_str().is_empty() {
            return None;
        }
        Some(Backend::Sqlite(SqliteOptions {
            path,
            flush: database.flush,
            readers: database.readers,
            acquire_timeout: database.acquire_timeout,
            statement_timeout: database.statement_timeout,
        }))
    }

    fn postgres(&self, url: &str) -> PostgresOptions {
        let database = &self.database;
        PostgresOptions {
            url: url.to_owned(),
            pool_max: database.pool_max,
            pool_min: database.pool_min,
            idle_timeout: database.idle_timeout,
            acquire_timeout: database.acquire_timeout,
            statement_timeout: database.statement_timeout,
        }
    }
}

impl weft_runtime::Config for Config {
    fn address(&self) -> Option<&str> {
        Some(&self.address)
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

    fn operator_names() -> &'static [(&'static str, &'static str)] {
        &[("DATABASE_URL", "database.url"), ("DATABASE_POOL_SIZE", "database.pool_max")]
    }

    fn validate(&self, problems: &mut Problems) {
        let database = &self.database;
        if self.backend().is_none() {
            problems.push("database.url", "must be sqlite:<path> or postgres://…");
        }
        problems.require(database.pool_max > 0, "database.pool_max", "must be at least 1");
        problems.require(
            database.pool_min <= database.pool_max,
            "database.pool_min",
            format!("is {}, more than database.pool_max, {}", database.pool_min, database.pool_max),
        );
        problems.require((1..=64).contains(&database.readers), "database.readers", "must be 1 to 64");
        for (key, value) in [
            ("database.idle_timeout", database.idle_timeout),
            ("database.acquire_timeout", database.acquire_timeout),
            ("database.statement_timeout", database.statement_timeout),
            ("outbox.poll", self.outbox.poll),
            ("outbox.patience", self.outbox.patience),
        ] {
            problems.require(value >= Duration::from_millis(1), key, "must be at least 1ms");
        }
        if self.failpoint.is_some() && !cfg!(debug_assertions) {
            problems.push("failpoint", "is for debug builds only");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> Config {
        let database = Database { url: Some(Secret::new(url)), ..Database::default() };
        Config { database, ..Config::default() }
    }

    #[test]
    fn the_url_says_which_database() {
        let path = |config: Config| match config.backend() {
            Some(Backend::Sqlite(options)) => options.path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path(Config::default()), PathBuf::from(".weft/database/weft.db"));
        assert_eq!(path(with_url("sqlite:/tmp/a.db")), PathBuf::from("/tmp/a.db"));
        assert_eq!(path(with_url("sqlite://a.db")), PathBuf::from("a.db"));
        assert!(matches!(with_url("postgres://u:p@h/d").backend(), Some(Backend::Postgres(_))));
        assert!(with_url("mysql://h/d").backend().is_none());
        assert!(with_url("sqlite:").backend().is_none());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let mut config = with_url("oracle:");
        config.database.pool_max = 0;
        config.database.readers = 0;
        config.outbox.poll = Duration::ZERO;
        let mut problems = Problems::default();
        weft_runtime::Config::validate(&config, &mut problems);
        let text = problems.into_result().unwrap_err().to_string();
        for key in
            ["database.url", "database.pool_max", "database.pool_min", "database.readers", "outbox.poll"]
        {
            assert!(text.contains(key), "{key} in {text}");
        }
    }
}
