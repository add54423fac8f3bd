//! Every instrument of the service, and the counters that GetStats reports.
//!
//! The Prometheus exporter completes the names: `_total` for counters, `_bytes` and `_seconds` from the unit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use crate::{
    compress::Encoding,
    optimize::{Kept, Kind, Pool},
    origin::Served,
    storage::Backend,
};

/// The instruments. Clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    put_bytes: Histogram<u64>,
    http_responses: Counter<u64>,
    http_body_bytes: Counter<u64>,
    optimizations: Counter<u64>,
    optimizer_input: Counter<u64>,
    optimizer_output: Counter<u64>,
    store_errors: Counter<u64>,
    swept: Counter<u64>,
    origins: OfOrigins,
    totals: Totals,
}

#[derive(Debug)]
struct OfOrigins {
    requests: Counter<u64>,
    kept: Counter<u64>,
    evictions: Counter<u64>,
    fetches: Histogram<f64>,
}

/// Totals since the start.
#[derive(Debug, Default)]
pub struct Totals {
    /// Assets stored.
    pub puts: AtomicU64,
    /// Their bytes.
    pub put_bytes: AtomicU64,
    /// HTTP requests for assets.
    pub http_requests: AtomicU64,
    /// Of these, answered 304.
    pub http_not_modified: AtomicU64,
    /// Bytes of bodies handed to the transport.
    pub http_bytes: AtomicU64,
    /// Requests answered from memory.
    pub memory_hits: AtomicU64,
    /// Store failures.
    pub store_errors: AtomicU64,
    optimizers: [OptimizerTotals; 4],
}

/// Totals of one optimizer.
#[derive(Debug, Default)]
pub struct OptimizerTotals {
    /// Assets given to it.
    pub runs: AtomicU64,
    /// Originals kept.
    pub kept: AtomicU64,
    /// Bytes given to it.
    pub input_bytes: AtomicU64,
    /// Bytes served in their stead.
    pub output_bytes: AtomicU64,
}

impl Metrics {
    /// Registers all instruments, and the gauges of `pool`.
    #[must_use]
    pub fn new() -> Self {
        let meter = global::meter("weft-assets");
        Self(Arc::new(Inner {
            put_bytes: meter
                .u64_histogram("weft_assets_put_size")
                .with_unit("By")
                .with_description("Sizes of assets stored")
                .with_boundaries(vec![1e3, 1e4, 1e5, 1e6, 1e7, 1e8])
                .build(),
            http_responses: meter
                .u64_counter("weft_assets_http_responses")
                .with_description("HTTP responses by status, encoding and where the bytes came from")
                .build(),
            http_body_bytes: meter
                .u64_counter("weft_assets_http_body")
                .with_unit("By")
                .with_description("Bytes of HTTP bodies")
                .build(),
            optimizations: meter
                .u64_counter("weft_assets_optimizations")
                .with_description("Assets given to an optimizer, by optimizer and outcome")
                .build(),
            optimizer_input: meter
                .u64_counter("weft_assets_optimizer_input")
                .with_unit("By")
                .with_description("Bytes given to an optimizer")
                .build(),
            optimizer_output: meter
                .u64_counter("weft_assets_optimizer_output")
                .with_unit("By")
                .with_description("Bytes served instead of those given to an optimizer")
                .build(),
            store_errors: meter
                .u64_counter("weft_assets_store_errors")
                .with_description("Calls that the store failed")
                .build(),
            swept: meter
                .u64_counter("weft_assets_swept_objects")
                .with_description("Leftovers of uploads and deletions cut short that were removed")
                .build(),
            origins: OfOrigins::new(&meter),
            totals: Totals::default(),
        }))
    }

    /// Shows how much of origins is kept.
    pub fn watch_origins(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = global::meter("weft-assets")
            .u64_observable_gauge("weft_assets_origin_stored")
            .with_unit("By")
            .with_description("Bytes of origins that are kept")
            .with_callback(move |observer| observer.observe(bytes(), &[]))
            .build();
    }

    /// Shows what `pool` has to do.
    pub fn watch(&self, pool: &Pool) {
        let meter = global::meter("weft-assets");
        let jobs = pool.clone();
        let _ = meter
            .u64_observable_gauge("weft_assets_optimizations_pending")
            .with_description("Optimizations waiting or running")
            .with_callback(move |observer| observer.observe(jobs.load().jobs as u64, &[]))
            .build();
        let waiting = pool.clone();
        let _ = meter
            .f64_observable_gauge("weft_assets_optimization_oldest_wait")
            .with_unit("s")
            .with_description("How long the oldest waiting optimization has waited")
            .with_callback(move |observer| observer.observe(waiting.load().oldest_wait.as_secs_f64(), &[]))
            .build();
    }

    /// The totals.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// An asset was stored.
    pub fn put(&self, bytes: u64) {
        self.0.put_bytes.record(bytes, &[]);
        self.0.totals.puts.fetch_add(1, Relaxed);
        self.0.totals.put_bytes.fetch_add(bytes, Relaxed);
    }

    /// An optimizer was given an asset.
    pub fn optimized(&self, kind: Kind, input_bytes: u64, output_bytes: u64, kept: Option<&Kept>) {
        let optimizer = KeyValue::new("optimizer", kind.as_str());
        let outcome = KeyValue::new("outcome", kept.map_or("smaller", Kept::as_str));
        self.0.optimizations.add(1, &[optimizer.clone(), outcome]);
        self.0.optimizer_input.add(input_bytes, std::slice::from_ref(&optimizer));
        self.0.optimizer_output.add(output_bytes, &[optimizer]);
        let totals = self.0.totals.optimizer(kind);
        totals.runs.fetch_add(1, Relaxed);
        totals.kept.fetch_add(u64::from(kept.is_some()), Relaxed);
        totals.input_bytes.fetch_add(input_bytes, Relaxed);
        totals.output_bytes.fetch_add(output_bytes, Relaxed);
    }

    /// An HTTP request was answered.
    pub fn responded(&self, status: u16, encoding: Encoding, from_memory: bool) {
        let labels = [
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("encoding", encoding.as_str()),
            KeyValue::new("source", if from_memory { "memory" } else { "store" }),
        ];
        self.0.http_responses.add(1, &labels);
        let totals = &self.0.totals;
        totals.http_requests.fetch_add(1, Relaxed);
        totals.http_not_modified.fetch_add(u64::from(status == 304), Relaxed);
        totals.memory_hits.fetch_add(u64::from(from_memory), Relaxed);
    }

    /// Bytes of a body went out.
    pub fn sent(&self, bytes: u64) {
        self.0.http_body_bytes.add(bytes, &[]);
        self.0.totals.http_bytes.fetch_add(bytes, Relaxed);
    }

    /// The store failed a call.
    pub fn store_error(&self, backend: Backend) {
        self.0.store_errors.add(1, &[KeyValue::new("backend", backend.as_str())]);
        self.0.totals.store_errors.fetch_add(1, Relaxed);
    }

    /// A request for a file of an origin was answered.
    pub fn origin_answered(&self, served: Served) {
        self.0.origins.requests.add(1, &[KeyValue::new("result", served.as_str())]);
    }

    /// A response of an origin was stored.
    pub fn origin_kept(&self, bytes: u64) {
        self.0.origins.kept.add(bytes, &[]);
    }

    /// Responses of origins made room for others.
    pub fn origin_evicted(&self, responses: u64) {
        self.0.origins.evictions.add(responses, &[]);
    }

    /// A fetch ended; `outcome` is `ok` or the kind of its error.
    pub fn origin_fetched(&self, took: Duration, outcome: &'static str) {
        self.0.origins.fetches.record(took.as_secs_f64(), &[KeyValue::new("outcome", outcome)]);
    }

    /// Leftovers were removed.
    pub fn swept(&self, objects: u64) {
        self.0.swept.add(objects, &[]);
    }
}

impl OfOrigins {
    fn new(meter: &Meter) -> Self {
        Self {
            requests: meter
                .u64_counter("weft_assets_origin_requests")
                .with_description("Requests for files of origins, by how they were answered")
                .build(),
            kept: meter
                .u64_counter("weft_assets_origin_kept")
                .with_unit("By")
                .with_description("Bytes of origins that were stored, as they came")
                .build(),
            evictions: meter
                .u64_counter("weft_assets_origin_evictions")
                .with_description("Responses of origins that made room for others")
                .build(),
            fetches: meter
                .f64_histogram("weft_assets_origin_fetch_duration")
                .with_unit("s")
                .with_description("How long fetches took that were to be kept, by outcome")
                .with_boundaries(vec![0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0])
                .build(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Totals {
    /// Those of one optimizer.
    #[must_use]
    pub fn optimizer(&self, kind: Kind) -> &OptimizerTotals {
        let [js, css, png, jpeg] = &self.optimizers;
        match kind {
            Kind::Js => js,
            Kind::Css => css,
            Kind::Png => png,
            Kind::Jpeg => jpeg,
        }
    }
}
