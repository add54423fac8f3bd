//! The configuration of the service.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use weft_runtime::config::{Admin, Keys, Lifecycle, Problems, Secret, Telemetry, duration};

use crate::storage::S3Settings;

mod origin;

pub use origin::{Immutable, OriginCacheConfig, OriginConfig};

/// Largest upload that may be configured: one is read whole into memory to be optimized.
const MAX_ASSET_BYTES: u64 = 1024 * 1024 * 1024;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where gRPC and HTTP delivery listen. Default `127.0.0.1:7104`.
    pub address: String,
    /// The admin port. Default `127.0.0.1:7204`.
    pub admin: Admin,
    /// Start, load and shutdown limits.
    pub lifecycle: Lifecycle,
    /// Logs, traces and metrics.
    pub telemetry: Telemetry,
    /// The keys by which it believes who calls, and signs its own calls. Default: none, everybody is believed.
    pub identity: Keys,
    /// Where assets are kept without S3, and uploads are spooled in any case. Default `.weft/assets`.
    pub data_dir: PathBuf,
    /// Where bytes are kept.
    pub storage: StorageConfig,
    /// Largest asset in bytes. Default 64 MiB: larger files want a direct upload to the store.
    pub max_asset_bytes: u64,
    /// How long an upload may send nothing before it is given up. Default `60s`: longer than any network that still works
    /// is silent, and what waits meanwhile is a file on the disk and a place among the calls in flight.
    #[serde(with = "duration")]
    pub upload_idle_timeout: Duration,
    /// Put before the paths of GetAssetUrl, like `https://cdn.example.com`. Default empty: relative URLs.
    pub public_base_url: String,
    /// HTTP delivery.
    pub http: HttpConfig,
    /// Optimizers.
    pub optimize: OptimizeConfig,
    /// Servers whose files this one delivers. Default none.
    pub origins: Vec<OriginConfig>,
    /// What is kept of them.
    pub origin_cache: OriginCacheConfig,
}

/// Where bytes are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// The S3-compatible store; used once its bucket is set.
    pub s3: S3Config,
    /// Time limit of one call to the store, of each part of a long upload, and of waiting for the next bytes of a
    /// download, which takes as long as its reader does. Default `5s`: longer than any healthy store takes, shorter than
    /// a caller waits.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How often the store is probed for readiness. Default `2s`, so that its return is seen about when callers retry.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// How old leftovers of uploads and deletions that were killed half-way get before they are removed. Default `1h`,
    /// far longer than any upload takes.
    #[serde(with = "duration")]
    pub orphan_age: Duration,
}

/// The S3-compatible store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Config {
    /// Name of the bucket, which must exist. Default empty: the file system is used.
    pub bucket: String,
    /// URL of the store, like `http://127.0.0.1:9000`. Default empty: AWS.
    pub endpoint: String,
    /// Region. Default `us-east-1`, which stores without regions expect.
    pub region: String,
    /// Access key. Default empty: credentials of the instance or pod.
    pub access_key_id: String,
    /// Secret key.
    pub secret_access_key: Secret,
    /// Put before every key, so that several meshes may share a bucket. Default empty.
    pub prefix: String,
}

/// HTTP delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpConfig {
    /// Bytes of hot variants held in memory. Default 64 MiB: a whole site's scripts and styles.
    pub memory_bytes: u64,
    /// Largest variant held in memory. Default 1 MiB: larger ones are streamed, where the disk is no bottleneck.
    pub memory_entry_bytes: u64,
    /// How long a replica may answer from what it knows of a public asset before it asks the store again; so long another
    /// replica's deletion may go unseen. Default `2s`, which spares the store almost all lookups of a hot asset.
    #[serde(with = "duration")]
    pub lookup_ttl: Duration,
}

/// Optimizers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimizeConfig {
    /// Optimizations at a time. Default 0: one per core, since they do nothing but compute.
    pub workers: usize,
    /// Optimizations that may wait; one more is refused with a retry hint. Default 64, some seconds of work.
    pub max_waiting: usize,
    /// Largest image in pixels that is accepted at all. Default 50 million: no camera phone makes more.
    pub max_pixels: u64,
    /// Largest image in pixels that is optimized; larger ones are kept as they are. Default 16 million, about 200 MiB
    /// of memory per worker.
    pub max_optimized_pixels: u64,
    /// Largest script or style sheet in bytes that is optimized. Default 4 MiB, some seconds of work.
    pub max_text_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:7104".into(),
            admin: Admin::at("127.0.0.1:7204"),
            lifecycle: Lifecycle::default(),
            telemetry: Telemetry::default(),
            identity: Keys::default(),
            data_dir: ".weft/assets".into(),
            storage: StorageConfig::default(),
            max_asset_bytes: 64 * 1024 * 1024,
            upload_idle_timeout: Duration::from_secs(60),
            public_base_url: String::new(),
            http: HttpConfig::default(),
            optimize: OptimizeConfig::default(),
            origins: Vec::new(),
            origin_cache: OriginCacheConfig::default(),
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            s3: S3Config::default(),
            timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(2),
            orphan_age: Duration::from_secs(3600),
        }
    }
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            endpoint: String::new(),
            region: "us-east-1".into(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            prefix: String::new(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * 1024 * 1024,
            memory_entry_bytes: 1024 * 1024,
            lookup_ttl: Duration::from_secs(2),
        }
    }
}

impl Default for OptimizeConfig {
    fn default() -> Self {
        Self {
            workers: 0,
            max_waiting: 64,
            max_pixels: 50_000_000,
            max_optimized_pixels: 16_000_000,
            max_text_bytes: 4 * 1024 * 1024,
        }
    }
}

impl StorageConfig {
    /// What the S3 backend needs to know; `None` when the file system is used.
    pub(crate) fn s3_settings(&self) -> Option<S3Settings> {
        let s3 = &self.s3;
        (!s3.bucket.is_empty()).then(|| S3Settings {
            bucket: s3.bucket.clone(),
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            access_key_id: s3.access_key_id.clone(),
            secret_access_key: s3.secret_access_key.expose().to_owned(),
            prefix: s3.prefix.clone(),
            timeout: self.timeout,
        })
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
        &[
            ("AWS_ENDPOINT_URL", "storage.s3.endpoint"),
            ("AWS_REGION", "storage.s3.region"),
            ("AWS_ACCESS_KEY_ID", "storage.s3.access_key_id"),
            ("AWS_SECRET_ACCESS_KEY", "storage.s3.secret_access_key"),
        ]
    }

    fn validate(&self, problems: &mut Problems) {
        let mut within = |key: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.push(key, format!("must be {least} to {most}, is {value}"));
            }
        };
        within("max_asset_bytes", self.max_asset_bytes, 1, MAX_ASSET_BYTES);
        within("http.memory_entry_bytes", self.http.memory_entry_bytes, 0, self.http.memory_bytes);
        within("optimize.max_waiting", self.optimize.max_waiting as u64, 1, 100_000);
        within("optimize.workers", self.optimize.workers as u64, 0, 1024);
        within("optimize.max_pixels", self.optimize.max_pixels, 1, 1_000_000_000);
        within("optimize.max_optimized_pixels", self.optimize.max_optimized_pixels, 0, 100_000_000);
        within("optimize.max_text_bytes", self.optimize.max_text_bytes, 0, 32 * 1024 * 1024);
        let base = &self.public_base_url;
        if !base.is_empty() && !base.starts_with("https://") && !base.starts_with("http://") {
            problems.push("public_base_url", format!("must start with http:// or https://, is {base}"));
        }
        let endpoint = &self.storage.s3.endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            problems
                .push("storage.s3.endpoint", format!("must start with http:// or https://, is {endpoint}"));
        }
        for (key, value) in [
            ("upload_idle_timeout", self.upload_idle_timeout),
            ("storage.timeout", self.storage.timeout),
            ("storage.probe_interval", self.storage.probe_interval),
            ("storage.orphan_age", self.storage.orphan_age),
        ] {
            if value < Duration::from_millis(100) {
                problems.push(key, format!("must be at least 100ms, is {value:?}"));
            }
        }
        origin::validate(&self.origins, &self.origin_cache, problems);
    }
}
