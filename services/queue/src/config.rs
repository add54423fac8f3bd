//! The configuration of the queue service.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use weft_mesh::Peer;
use weft_runtime::config::{Admin, Keys, Lifecycle, Problems, Secret, Telemetry, duration};

use crate::job::{Queue, backoff::Backoff};

/// Configuration of the queue service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where it listens for gRPC. Default `127.0.0.1:7103`.
    pub address: String,
    /// The admin port. Default `127.0.0.1:7203`.
    pub admin: Admin,
    /// Limits and shutdown.
    pub lifecycle: Lifecycle,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The keys by which it believes who calls, and signs its own calls. Default: none, everybody is believed.
    pub identity: Keys,
    /// Where the SQLite job store lives. Default `.weft/queue`.
    pub data_dir: PathBuf,
    /// What this replica does: `api` answers calls, `worker` runs jobs. Default both.
    pub roles: Vec<Role>,
    /// The job store.
    pub jobs: Jobs,
    /// What tells workers of due jobs.
    pub broker: Broker,
    /// How jobs are run.
    pub workers: Workers,
    /// What happens after a failed attempt.
    pub retry: Retry,
    /// How long ended jobs are kept.
    pub retention: Retention,
    /// The model provider that answers chats.
    pub provider: Provider,
    /// What makes embeddings.
    pub embedding: Embedding,
    /// Reading documents.
    pub extractor: Extractor,
    /// The database service, which workers call.
    pub database: Peer,
    /// The assets service, which workers call.
    pub assets: Peer,
}

/// A role of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers calls.
    Api,
    /// Runs jobs.
    Worker,
}

/// The job store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Jobs {
    /// `sqlite:<path>` or `postgres://…`; `DATABASE_URL` sets it too. Default: `jobs.sqlite` in `data_dir`.
    pub url: Secret,
    /// The most connections to PostgreSQL. Default 10: commits are grouped, so a few are enough.
    pub max_connections: u32,
    /// How long an operation of PostgreSQL may take, waiting for a connection included. Default 3 s: less than callers
    /// wait by default (5 s), so that they learn what is wrong instead of giving up.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// What tells workers of due jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Broker {
    /// `amqp://…` of RabbitMQ; `AMQP_URL` sets it too. Default: none, workers ask the job store.
    pub amqp_url: Secret,
    /// How often the job store is asked for due jobs nobody told of: delayed ones, retries, other replicas' jobs.
    /// Default 500 ms: what a delay may be late; three queues asked more often would be most of what an idle mesh does.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// How long RabbitMQ may take to connect, or to confirm a delivery. Default 5 s; a quorum write takes milliseconds.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// How jobs are run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// Chat jobs at once. Default 32: they wait for a model most of the time.
    pub chat: usize,
    /// Document jobs at once. Default 8: while some wait for the network, others are read and embedded.
    pub document: usize,
    /// Notification jobs at once. Default 8.
    pub notification: usize,
    /// How long a worker holds a job without a sign of life. Default 30 s: three heartbeats.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How often a worker gives a sign of life. Default 10 s.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// How long a job may hold its RabbitMQ delivery. After that the lease alone holds it, so that RabbitMQ's own
    /// acknowledgement timeout (30 min) never strikes. Default 5 min.
    #[serde(with = "duration")]
    pub ack_early_after: Duration,
}

/// What happens after a failed attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// The most that the first retry waits. Default 1 s.
    #[serde(with = "duration")]
    pub base: Duration,
    /// Growth of that from retry to retry. Default 2.
    pub factor: f64,
    /// The most that any retry waits. Default 5 min.
    #[serde(with = "duration")]
    pub cap: Duration,
    /// Attempts of a job that does not say. Default 5: about half a minute in all.
    pub max_attempts: u32,
}

/// How long ended jobs are kept. Dead letters are kept until they are redriven or discarded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Succeeded and cancelled jobs. Default 168 h, a week: as long as an idempotency key should hold.
    #[serde(with = "duration")]
    pub jobs: Duration,
    /// Their output and progress. Default 24 h: the reply itself is in the database.
    #[serde(with = "duration")]
    pub logs: Duration,
    /// How often is looked. Default 1 min.
    #[serde(with = "duration")]
    pub interval: Duration,
}

/// An OpenAI-compatible provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// Base URL up to and including the version, such as `http://127.0.0.1:11434/v1`. Default: none, chats are answered
    /// by the built-in retrieval responder.
    pub base_url: String,
    /// Sent as a bearer token. Default: none.
    pub api_key: Secret,
    /// The model of chats that name none. Required with `base_url`.
    pub model: String,
    /// How long connecting may take. Default 5 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long the provider may be silent, before and between tokens. Default 60 s: large models load slowly.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long an answer may take in all. Default 10 min.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Messages of the chat that are sent along, the newest. Default 20.
    pub history: usize,
    /// Passages of the user's documents that are sent along. Default 5; 0 for none.
    pub passages: usize,
}

/// What makes embeddings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Embedding {
    /// A model of an OpenAI-compatible endpoint. Default: none, embeddings are hashed features, made here.
    /// All chunks of a database must come from one model: change it only with an empty database.
    pub model: String,
    /// Base URL as in `provider`. Default: that of `provider`.
    pub base_url: String,
    /// Default: that of `provider`.
    pub api_key: Secret,
    /// Texts in one request. Default 64.
    pub batch: usize,
    /// How long a request may take. Default 30 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

/// Reading documents, in child processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Extractor {
    /// Children at once. Default 2: each uses a core while it reads.
    pub processes: usize,
    /// Program and arguments of a child. Default: none, this program itself with `extract`.
    pub command: Vec<String>,
    /// How long a child may take for one document. Default 10 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Processor time for one document. Default 10 s.
    #[serde(with = "duration")]
    pub cpu: Duration,
    /// Memory of a child beyond the program itself, in bytes. Default 512 MiB.
    pub memory_bytes: u64,
    /// The largest document, in bytes. Default 32 MiB.
    pub max_bytes: u64,
    /// Documents until a child is replaced. Default 1000: whatever leaks is bounded.
    pub recycle_after: u32,
    /// The most characters of a chunk. Default 1000: a few paragraphs, and a few hundred tokens of an embedding model.
    pub chunk_chars: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            address: "127.0.0.1:7103".into(),
            admin: Admin::at("127.0.0.1:7203"),
            lifecycle: Lifecycle::default(),
            telemetry: Telemetry::default(),
            identity: Keys::default(),
            data_dir: ".weft/queue".into(),
            roles: vec![Role::Api, Role::Worker],
            jobs: Jobs::default(),
            broker: Broker::default(),
            workers: Workers::default(),
            retry: Retry::default(),
            retention: Retention::default(),
            provider: Provider::default(),
            embedding: Embedding::default(),
            extractor: Extractor::default(),
            database: Peer::default(),
            assets: Peer::default(),
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Jobs { url: Secret::default(), max_connections: 10, timeout: Duration::from_secs(3) }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Broker {
            amqp_url: Secret::default(),
            poll_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(5),
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        Workers {
            chat: 32,
            document: 8,
            notification: 8,
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            ack_early_after: Duration::from_secs(300),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry { base: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(300), max_attempts: 5 }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            jobs: Duration::from_secs(7 * 24 * 3600),
            logs: Duration::from_secs(24 * 3600),
            interval: Duration::from_secs(60),
        }
    }
}

impl Default for Provider {
    fn default() -> Self {
        Provider {
            base_url: String::new(),
            api_key: Secret::default(),
            model: String::new(),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            timeout: Duration::from_secs(600),
            history: 20,
            passages: 5,
        }
    }
}

impl Default for Embedding {
    fn default() -> Self {
        Embedding {
            model: String::new(),
            base_url: String::new(),
            api_key: Secret::default(),
            batch: 64,
            timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Extractor {
    fn default() -> Self {
        Extractor {
            processes: 2,
            command: Vec::new(),
            timeout: Duration::from_secs(10),
            cpu: Duration::from_secs(10),
            memory_bytes: 512 << 20,
            max_bytes: 32 << 20,
            recycle_after: 1000,
            chunk_chars: 1000,
        }
    }
}

impl Config {
    /// Whether this replica has a role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl Workers {
    /// Jobs of a queue at once.
    #[must_use]
    pub fn concurrency(&self, queue: Queue) -> usize {
        match queue {
            Queue::Chat => self.chat,
            Queue::Document => self.document,
            Queue::Notification => self.notification,
        }
    }
}

impl Retry {
    /// The schedule of retries.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        Backoff { base: self.base, factor: self.factor, cap: self.cap }
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
        &[("DATABASE_URL", "jobs.url"), ("AMQP_URL", "broker.amqp_url")]
    }

    fn validate(&self, problems: &mut Problems) {
        problems.require(!self.roles.is_empty(), "roles", "must name at least one of \"api\" and \"worker\"");
        let url = self.jobs.url.expose();
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        problems.require(url.is_empty() || known, "jobs.url", "must be sqlite:<path> or postgres://…");
        let amqp = self.broker.amqp_url.expose();
        let known = amqp.starts_with("amqp://") || amqp.starts_with("amqps://");
        problems.require(amqp.is_empty() || known, "broker.amqp_url", "must be amqp://… or amqps://…");
        self.validate_workers(problems);
        self.validate_handlers(problems);
    }
}

impl Config {
    fn validate_workers(&self, problems: &mut Problems) {
        for queue in Queue::ALL {
            // RabbitMQ caps the prefetch of a quorum queue at 2000.
            let valid = (1..=2000).contains(&self.workers.concurrency(queue));
            let key = format!("workers.{}", queue.name().trim_end_matches("_queue"));
            problems.require(valid, &key, "must be 1 to 2000");
        }
        let beats = self.workers.heartbeat * 2 < self.workers.lease && !self.workers.heartbeat.is_zero();
        problems.require(beats, "workers.heartbeat", "must be less than half of workers.lease, and not 0s");
        problems.require(self.retry.factor >= 1.0, "retry.factor", "must be at least 1");
        let attempts = (1..=100).contains(&self.retry.max_attempts);
        problems.require(attempts, "retry.max_attempts", "must be 1 to 100");
        let positive = [
            ("jobs.timeout", self.jobs.timeout),
            ("broker.poll_interval", self.broker.poll_interval),
            ("broker.timeout", self.broker.timeout),
            ("retention.interval", self.retention.interval),
            ("extractor.timeout", self.extractor.timeout),
            ("provider.idle_timeout", self.provider.idle_timeout),
            ("provider.timeout", self.provider.timeout),
            ("embedding.timeout", self.embedding.timeout),
        ];
        for (key, value) in positive {
            problems.require(!value.is_zero(), key, "must not be 0s");
        }
        problems.require(self.jobs.max_connections > 0, "jobs.max_connections", "must be at least 1");
    }

    fn validate_handlers(&self, problems: &mut Problems) {
        let provider = !self.provider.base_url.is_empty();
        let http = |url: &str| url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
        problems.require(http(&self.provider.base_url), "provider.base_url", "must be http://… or https://…");
        problems.require(
            http(&self.embedding.base_url),
            "embedding.base_url",
            "must be http://… or https://…",
        );
        let model = !provider || !self.provider.model.is_empty();
        problems.require(model, "provider.model", "must be set with provider.base_url");
        let endpoint = provider || !self.embedding.base_url.is_empty() || self.embedding.model.is_empty();
        problems.require(
            endpoint,
            "embedding.base_url",
            "must be set with embedding.model, or provider.base_url",
        );
        problems.require(self.embedding.batch > 0, "embedding.batch", "must be at least 1");
        problems.require(self.extractor.processes > 0, "extractor.processes", "must be at least 1");
        problems.require(self.extractor.recycle_after > 0, "extractor.recycle_after", "must be at least 1");
        let memory = self.extractor.memory_bytes >= 64 << 20;
        problems.require(memory, "extractor.memory_bytes", "must be at least 64 MiB");
        let size = (1..=200 << 20).contains(&self.extractor.max_bytes);
        problems.require(size, "extractor.max_bytes", "must be 1 byte to 200 MiB");
        // A character has up to 4 bytes, and the database takes chunks of 16 KiB.
        let chars = (100..=4000).contains(&self.extractor.chunk_chars);
        problems.require(chars, "extractor.chunk_chars", "must be 100 to 4000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        let mut problems = Problems::default();
        weft_runtime::Config::validate(&config, &mut problems);
        problems.into_result().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(problems(|_| {}), "");
    }

    #[test]
    fn every_problem_is_reported_at_once_by_its_key() {
        let said = problems(|config| {
            config.roles.clear();
            config.jobs.url = "mysql://db/weft".into();
            config.workers.heartbeat = Duration::from_secs(20);
            config.workers.document = 0;
            config.retry.factor = 0.5;
            config.provider.base_url = "http://127.0.0.1:1/v1".into();
        });
        for key in
            ["roles", "jobs.url", "workers.heartbeat", "workers.document", "retry.factor", "provider.model"]
        {
            assert!(said.contains(&format!("\n  {key}: ")), "{key} not in: {said}");
        }
    }
}
