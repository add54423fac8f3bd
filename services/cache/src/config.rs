//! The service's settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_balance::Thresholds;
use weft_runtime::config::{Admin, Keys, Lifecycle, Problems, Secret, Telemetry, duration};

use crate::{
    store::{memory::MemoryLimits, redis, redis::RedisSettings},
    ttl,
};

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where gRPC is served. Default `127.0.0.1:7101`.
    pub address: String,
    /// Where metrics and probes are served. Default `127.0.0.1:7201`.
    pub admin: Admin,
    /// Limits and the order of stopping.
    pub lifecycle: Lifecycle,
    /// Logs, traces and metrics.
    pub telemetry: Telemetry,
    /// The keys by which it believes who calls, and signs its own calls. Default: none, everybody is believed.
    pub identity: Keys,
    /// Time to live of values stored without one, 1 s to 30 days. Default `1h`: long enough for a working session,
    /// short enough that a lost invalidation heals within it.
    #[serde(with = "duration")]
    pub default_ttl: Duration,
    /// The largest value, in bytes. Default 1 MiB: a page of chats or messages is far smaller, and one large value
    /// delays every call behind it on the shared connection.
    pub max_value_bytes: usize,
    /// The largest request, in bytes; at least 4 values. Default 16 MiB. A larger one is refused before it is read.
    pub max_request_bytes: usize,
    /// How long a lease stands, that is how long a load may take. Default `10s`: longer than any sane query, and the
    /// longest that a loader that died keeps others waiting.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// When a caller that was told to wait shall ask again. Default `20ms`: a few times a point query.
    #[serde(with = "duration")]
    pub retry_after: Duration,
    /// The embedded store, used while `redis.url` is not set.
    pub memory: Memory,
    /// The store shared by replicas.
    pub redis: Redis,
}

/// The embedded store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Everything held, with keys and overhead, in bytes; at least 8 values of the largest size. Default 64 MiB.
    pub max_bytes: u64,
}

/// The Redis store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Redis {
    /// `redis://[user[:password]@]host[:port][/db]`, Redis 7 or newer or Valkey; also read from `REDIS_URL`. Not set
    /// by default, which means the embedded store.
    pub url: Option<Secret>,
    /// The first part of every Redis key: 1 to 64 of `a-z A-Z 0-9 . _ -`. Default `weft`. Replicas that share entries
    /// share it; meshes that share a Redis do not.
    pub namespace: String,
    /// The longest a call to Redis may take. Default `500ms`: beyond it the database is the faster way.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The time between probes of a quiet connection. Default `1s`.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// Answered probes in a row that make an unready service ready. Default 2.
    pub healthy_threshold: u32,
    /// Unanswered probes in a row that make a ready service unready. Default 2.
    pub unhealthy_threshold: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:7101".to_owned(),
            admin: Admin::at("127.0.0.1:7201"),
            lifecycle: Lifecycle::default(),
            telemetry: Telemetry::default(),
            identity: Keys::default(),
            default_ttl: Duration::from_secs(3600),
            max_value_bytes: 1024 * 1024,
            max_request_bytes: 16 * 1024 * 1024,
            lease: Duration::from_secs(10),
            retry_after: Duration::from_millis(20),
            memory: Memory::default(),
            redis: Redis::default(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { max_bytes: 64 * 1024 * 1024 }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            namespace: "weft".to_owned(),
            timeout: Duration::from_millis(500),
            probe_interval: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
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
        &[("REDIS_URL", "redis.url")]
    }

    fn validate(&self, problems: &mut Problems) {
        if let Err(problem) = ttl::check(self.default_ttl) {
            problems.push("default_ttl", problem.to_string());
        }
        within(problems, "lease", self.lease, Duration::from_millis(100)..=Duration::from_secs(60));
        within(problems, "retry_after", self.retry_after, Duration::from_millis(1)..=Duration::from_secs(10));
        if !(1..=MAX_VALUE_BYTES).contains(&self.max_value_bytes) {
            problems.push(
                "max_value_bytes",
                format!("must be 1 to {MAX_VALUE_BYTES}, is {}", self.max_value_bytes),
            );
        }
        let least = 4 * self.max_value_bytes;
        if self.max_request_bytes < least {
            let problem = format!("must hold 4 values, that is {least}, is {}", self.max_request_bytes);
            problems.push("max_request_bytes", problem);
        }
        let least = 8 * self.max_value_bytes as u64;
        if self.memory.max_bytes < least {
            let problem = format!("must hold 8 values, that is {least}, is {}", self.memory.max_bytes);
            problems.push("memory.max_bytes", problem);
        }
        self.redis.validate(problems);
    }
}

/// More would not fit in the messages that clients accept by default, which is 4 MiB.
const MAX_VALUE_BYTES: usize = 3 * 1024 * 1024;

impl Config {
    /// What the embedded store is given.
    #[must_use]
    pub fn memory_limits(&self) -> MemoryLimits {
        let max_value_bytes = self.max_value_bytes as u64;
        MemoryLimits { max_bytes: self.memory.max_bytes, max_value_bytes, lease: self.lease }
    }

    /// What the Redis store is given; `None` without a URL.
    #[must_use]
    pub fn redis_settings(&self) -> Option<RedisSettings> {
        let redis = &self.redis;
        Some(RedisSettings {
            url: redis.url.as_ref()?.expose().to_owned(),
            namespace: redis.namespace.clone(),
            timeout: redis.timeout,
            lease: self.lease,
            probe_interval: redis.probe_interval,
            thresholds: Thresholds { healthy: redis.healthy_threshold, unhealthy: redis.unhealthy_threshold },
        })
    }
}

impl Redis {
    fn validate(&self, problems: &mut Problems) {
        if let Some(url) = &self.url
            && let Err(problem) = redis::check_url(url.expose())
        {
            problems.push("redis.url", problem.to_string());
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&self.namespace.len()) || !self.namespace.bytes().all(allowed) {
            problems.push("redis.namespace", "must be 1 to 64 of a-z A-Z 0-9 . _ -");
        }
        within(problems, "redis.timeout", self.timeout, Duration::from_millis(10)..=Duration::from_secs(10));
        let intervals = Duration::from_millis(50)..=Duration::from_secs(60);
        within(problems, "redis.probe_interval", self.probe_interval, intervals);
        for (key, threshold) in [
            ("redis.healthy_threshold", self.healthy_threshold),
            ("redis.unhealthy_threshold", self.unhealthy_threshold),
        ] {
            if threshold == 0 {
                problems.push(key, "must be at least 1, is 0");
            }
        }
    }
}

fn within(problems: &mut Problems, key: &str, value: Duration, range: std::ops::RangeInclusive<Duration>) {
    if !range.contains(&value) {
        problems.push(key, format!("must be {:?} to {:?}, is {value:?}", range.start(), range.end()));
    }
}
