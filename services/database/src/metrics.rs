//! Every instrument of the service.

use std::{sync::Weak, time::Duration};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram, Meter},
};
use weft_mesh::error::Classify;

use crate::{
    error::Error,
    repository::{
        Dialect, Engine, Query,
        outbox::{Effect, OutboxState},
    },
};

/// Bounds of `db.client.operation.duration` in seconds: those of the semantic conventions, and finer ones below.
const DURATION_BOUNDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// How a cacheable read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheRead {
    /// The cache had it.
    Hit,
    /// The database had to be asked.
    Miss,
    /// The cache could not be asked.
    Unavailable,
}

/// The instruments. Clones are the same.
#[derive(Clone)]
pub struct Metrics {
    query: Histogram<f64>,
    cache_reads: Counter<u64>,
    effects: Counter<u64>,
    outbox_rows: Gauge<u64>,
    outbox_age: Gauge<f64>,
}

fn meter() -> Meter {
    global::meter("weft-database")
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers the instruments.
    #[must_use]
    pub fn new() -> Self {
        let meter = meter();
        Self {
            query: meter
                .f64_histogram("db.client.operation.duration")
                .with_unit("s")
                .with_description("Duration of registered queries.")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            cache_reads: meter
                .u64_counter("weft_database_cache_reads")
                .with_description("Cacheable reads, by key pattern and whether the cache answered.")
                .build(),
            effects: meter
                .u64_counter("weft_database_outbox_effects")
                .with_description("Attempts at effects owed to other services, by kind and outcome.")
                .build(),
            outbox_rows: meter
                .u64_gauge("weft_database_outbox_rows")
                .with_description("Effects owed to other services.")
                .build(),
            outbox_age: meter
                .f64_gauge("weft_database_outbox_oldest_age_seconds")
                .with_description("How long the oldest effect has been owed.")
                .build(),
        }
    }

    /// A registered query ran.
    pub fn query(&self, dialect: Dialect, query: Query, elapsed: Duration, error: Option<&Error>) {
        let system = KeyValue::new("db.system.name", dialect.system_name());
        let name = KeyValue::new("db.query.summary", query.name());
        match error {
            None => self.query.record(elapsed.as_secs_f64(), &[system, name]),
            Some(error) => {
                let error = KeyValue::new("error.type", error.reason().to_owned());
                self.query.record(elapsed.as_secs_f64(), &[system, name, error]);
            }
        }
    }

    /// A cacheable read ended.
    pub fn cache_read(&self, pattern: &'static str, read: CacheRead) {
        let result = match read {
            CacheRead::Hit => "hit",
            CacheRead::Miss => "miss",
            CacheRead::Unavailable => "unavailable",
        };
        self.cache_reads.add(1, &[KeyValue::new("pattern", pattern), KeyValue::new("result", result)]);
    }

    /// An owed effect was attempted.
    pub fn effect(&self, effect: &Effect, happened: bool) {
        let kind = match effect {
            Effect::Invalidate { .. } => "invalidate",
            Effect::Publish { .. } => "publish",
        };
        let result = if happened { "ok" } else { "error" };
        self.effects.add(1, &[KeyValue::new("kind", kind), KeyValue::new("result", result)]);
    }

    /// How much is owed.
    pub fn outbox(&self, state: OutboxState) {
        self.outbox_rows.record(state.depth, &[]);
        self.outbox_age.record(state.oldest_age.as_secs_f64(), &[]);
    }

    /// Exports the state of an engine's pool, for as long as the engine is there.
    pub fn watch_pool(engine: &Weak<dyn Engine>) {
        let meter = meter();
        let observed = engine.clone();
        let _connections = meter
            .i64_observable_up_down_counter("db.client.connection.count")
            .with_unit("{connection}")
            .with_description("Connections open, by state.")
            .with_callback(move |observer| {
                let Some(pool) = observed.upgrade().map(|engine| engine.pool()) else { return };
                let (idle, open) = (i64::from(pool.idle), i64::from(pool.open));
                observer.observe(idle, &[KeyValue::new("db.client.connection.state", "idle")]);
                observer.observe(open - idle, &[KeyValue::new("db.client.connection.state", "used")]);
            })
            .build();
        let observed = engine.clone();
        let _max = meter
            .i64_observable_up_down_counter("db.client.connection.max")
            .with_unit("{connection}")
            .with_description("The most connections there may be.")
            .with_callback(move |observer| {
                let Some(pool) = observed.upgrade().map(|engine| engine.pool()) else { return };
                observer.observe(i64::from(pool.max), &[]);
            })
            .build();
        let observed = engine.clone();
        let _pending = meter
            .i64_observable_up_down_counter("db.client.connection.pending_requests")
            .with_unit("{request}")
            .with_description("Calls waiting for a connection.")
            .with_callback(move |observer| {
                let Some(pool) = observed.upgrade().map(|engine| engine.pool()) else { return };
                observer.observe(i64::from(pool.waiting), &[]);
            })
            .build();
        let observed = engine.clone();
        let _timeouts = meter
            .u64_observable_counter("db.client.connection.timeouts")
            .with_unit("{timeout}")
            .with_description("Calls that waited longer than the acquire timeout.")
            .with_callback(move |observer| {
                let Some(pool) = observed.upgrade().map(|engine| engine.pool()) else { return };
                observer.observe(pool.timeouts, &[]);
            })
            .build();
    }
}
