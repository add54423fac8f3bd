//! Every instrument of the service, and the counters behind GetStats.
//!
//! The Prometheus exporter adds what a name must end in: `_total` to counters, `_bytes` to what is measured in bytes.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram, Meter},
};

use crate::{
    key::Pattern,
    store::{StoreError, Usage},
};

const PATTERNS: usize = Pattern::ALL.len();

fn meter() -> Meter {
    global::meter("weft-cache")
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A read found a value.
    Hit,
    /// A read did not.
    Miss,
    /// A read was told to wait for another caller's fill.
    Wait,
    /// A value was stored.
    Store,
    /// A fill was refused, because its lease no longer stood.
    RefusedFill,
    /// The key was dropped.
    Invalidation,
}

/// Counts events per key pattern, for GetStats and for the exporters alike.
pub struct Counters {
    totals: [[AtomicU64; Event::COUNT]; PATTERNS],
    store_errors: AtomicU64,
    lookups: Counter<u64>,
    stores: Counter<u64>,
    invalidations: Counter<u64>,
    errors: Counter<u64>,
    entries: Gauge<u64>,
    entry_bytes: Gauge<u64>,
    labels: [[[KeyValue; 2]; Event::COUNT]; PATTERNS],
}

impl Event {
    const COUNT: usize = 6;
    const ALL: [Self; Self::COUNT] =
        [Self::Hit, Self::Miss, Self::Wait, Self::Store, Self::RefusedFill, Self::Invalidation];

    const fn result(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Wait => "wait",
            Self::Store => "stored",
            Self::RefusedFill => "refused",
            Self::Invalidation => "dropped",
        }
    }
}

impl Counters {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let meter = meter();
        Self {
            totals: Default::default(),
            store_errors: AtomicU64::new(0),
            lookups: meter
                .u64_counter("weft_cache_lookups")
                .with_description("Keys read, by pattern and result: hit, miss or wait")
                .build(),
            stores: meter
                .u64_counter("weft_cache_stores")
                .with_description(
                    "Values offered, by pattern and result: stored, or refused because the lease was over",
                )
                .build(),
            invalidations: meter
                .u64_counter("weft_cache_invalidations")
                .with_description("Keys dropped by Delete and Invalidate, by pattern")
                .build(),
            errors: meter
                .u64_counter("weft_cache_store_errors")
                .with_description("Calls that got no answer from the store")
                .build(),
            entries: meter
                .u64_gauge("weft_cache_entries")
                .with_description("Values held in this process; 0 on Redis")
                .build(),
            entry_bytes: meter
                .u64_gauge("weft_cache_entry")
                .with_description("Bytes of the values held in this process; 0 on Redis")
                .with_unit("By")
                .build(),
            labels: Pattern::ALL.map(|pattern| {
                let pattern = KeyValue::new("pattern", pattern.name());
                Event::ALL.map(|event| [pattern.clone(), KeyValue::new("result", event.result())])
            }),
        }
    }

    /// Counts one event.
    pub fn count(&self, pattern: Pattern, event: Event) {
        self.totals[pattern as usize][event as usize].fetch_add(1, Relaxed);
        let labels = &self.labels[pattern as usize][event as usize];
        match event {
            Event::Hit | Event::Miss | Event::Wait => self.lookups.add(1, labels),
            Event::Store | Event::RefusedFill => self.stores.add(1, labels),
            Event::Invalidation => self.invalidations.add(1, &labels[..1]),
        }
    }

    /// Counts a call that the store did not answer.
    pub fn count_store_error(&self) {
        self.store_errors.fetch_add(1, Relaxed);
        self.errors.add(1, &[]);
    }

    /// How often an event has happened.
    pub fn total(&self, pattern: Pattern, event: Event) -> u64 {
        self.totals[pattern as usize][event as usize].load(Relaxed)
    }

    /// How many calls the store did not answer.
    pub fn store_errors(&self) -> u64 {
        self.store_errors.load(Relaxed)
    }

    /// Exports what is held in this process.
    pub fn observe(&self, usage: Usage) {
        self.entries.record(usage.entries, &[]);
        self.entry_bytes.record(usage.bytes, &[]);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// Times the calls to Redis.
pub struct StoreCalls(Histogram<f64>);

impl StoreCalls {
    /// The instrument.
    #[must_use]
    pub fn new() -> Self {
        let duration = meter()
            .f64_histogram("db.client.operation.duration")
            .with_description("Duration of calls to Redis")
            .with_unit("s")
            .with_boundaries(vec![
                0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
            ])
            .build();
        Self(duration)
    }

    /// Records one call: the command, the script it ran, and how it ended.
    pub fn record(
        &self,
        command: &'static str,
        script: Option<&'static str>,
        error: Option<&StoreError>,
        took: Duration,
    ) {
        let mut labels =
            vec![KeyValue::new("db.system.name", "redis"), KeyValue::new("db.operation.name", command)];
        labels.extend(script.map(|script| KeyValue::new("db.stored_procedure.name", script)));
        labels.extend(error.map(|error| KeyValue::new("error.type", error_type(error))));
        self.0.record(took.as_secs_f64(), &labels);
    }
}

impl Default for StoreCalls {
    fn default() -> Self {
        Self::new()
    }
}

const fn error_type(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unreachable(_) => "unreachable",
        StoreError::TimedOut => "timeout",
        StoreError::Refused(_) => "refused",
    }
}
