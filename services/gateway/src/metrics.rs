//! Every instrument of the gateway. Most counts live in the balancer and in plain atomics; they are read when scraped.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, BoundHistogram, Counter, Histogram},
};
use weft_balance::{Backend, Health, verdict::Code};
use weft_mesh::{
    methods::Methods,
    metrics::Calls,
    pool::{Pool, Tally},
};

use crate::{access_log::AccessLog, admin::Pools, forward::Lane, gate::Gate, route::Rule};

/// What the gateway counts of itself.
#[derive(Debug)]
pub(crate) struct Totals {
    /// When it started.
    pub(crate) started: Instant,
    /// Client connections that are open.
    pub(crate) connections: AtomicI64,
    /// Calls forwarded.
    pub(crate) calls: AtomicU64,
    /// Calls in flight.
    pub(crate) in_flight: Gate,
}

/// The gateway's instruments. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) totals: Arc<Totals>,
    /// gRPC's own names for what a server does.
    pub(crate) served: Arc<Calls>,
    /// `weft_gateway_call_duration_seconds`.
    duration: Histogram<f64>,
    shed: Counter<u64>,
    denied: Counter<u64>,
    rate_limited: Counter<u64>,
    translated: Counter<u64>,
    unrouted: Counter<u64>,
    /// Of answers of models.
    pub(crate) tokens: Tokens,
}

/// How the tokens of models' answers come.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    first: Histogram<f64>,
    rate: Histogram<f64>,
}

/// What is read of something when it is scraped.
type Value<T> = fn(&T) -> u64;

/// The durations of a route's calls, by status.
#[derive(Debug, Default)]
pub(crate) struct Durations([OnceLock<BoundHistogram<f64>>; Code::ALL.len()]);

impl Metrics {
    pub(crate) fn new(pools: &Pools, methods: &Methods, access_log: Option<&AccessLog>) -> Self {
        let totals = Arc::new(Totals {
            started: Instant::now(),
            connections: AtomicI64::new(0),
            calls: AtomicU64::new(0),
            in_flight: Gate::default(),
        });
        let meter = global::meter("weft-gateway");
        backends(pools);
        tallies(pools);
        states(pools);
        lists(pools);
        let counted = Arc::clone(&totals);
        meter
            .i64_observable_gauge("weft_gateway_client_connections")
            .with_description("Client connections that are open")
            .with_callback(move |gauge| gauge.observe(counted.connections.load(Ordering::Relaxed), &[]))
            .build();
        if let Some(log) = access_log.cloned() {
            meter
                .u64_observable_counter("weft_gateway_access_log_dropped")
                .with_description("Lines of the access log dropped because too many waited to be written")
                .with_callback(move |counter| counter.observe(log.dropped(), &[]))
                .build();
        }
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        Self {
            totals,
            served: Arc::new(Calls::served(methods)),
            duration: meter
                .f64_histogram("weft_gateway_call_duration_seconds")
                .with_description("Duration of forwarded calls, until the last byte of the response")
                .with_boundaries(vec![
                    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
                ])
                .build(),
            shed: counter("weft_gateway_calls_shed", "Calls refused because too many were in flight"),
            denied: counter(
                "weft_gateway_calls_denied",
                "Calls refused because nobody knows who makes them, or because the caller may not",
            ),
            rate_limited: counter(
                "weft_gateway_calls_rate_limited",
                "Calls refused because too many came in a time",
            ),
            translated: counter("weft_gateway_calls_translated", "Calls of clients that do not speak gRPC"),
            unrouted: counter("weft_gateway_calls_unrouted", "Calls that no route matches"),
            tokens: Tokens::new(),
        }
    }

    /// Notes a call that ended.
    pub(crate) fn ended(&self, lane: &Lane, code: Code, took: Duration) {
        let Some(duration) = lane.durations.0.get(code as usize) else { return };
        let bind = || {
            let [pool, route] = labels(&lane.rule);
            self.duration.bind(&[pool, route, KeyValue::new("status", code.as_str())])
        };
        duration.get_or_init(bind).record(took.as_secs_f64());
    }

    /// Notes a call that was refused because too many were in flight.
    pub(crate) fn shed(&self, rule: &Rule) {
        self.shed.add(1, &labels(rule));
    }

    /// Notes a call that was refused because nobody knows who makes it, or because the caller may not.
    pub(crate) fn denied(&self, rule: &Rule) {
        self.denied.add(1, &labels(rule));
    }

    /// Notes a call that was refused because too many came in a time.
    pub(crate) fn rate_limited(&self, rule: &Rule) {
        self.rate_limited.add(1, &labels(rule));
    }

    /// Notes a call that comes in another protocol than it goes on in.
    pub(crate) fn translated(&self, protocol: &'static str) {
        self.translated.add(1, &[KeyValue::new("protocol", protocol)]);
    }

    /// Notes a call that no route matches.
    pub(crate) fn unrouted(&self) {
        self.unrouted.add(1, &[]);
    }
}

impl Tokens {
    fn new() -> Self {
        let meter = global::meter("weft-gateway");
        Self {
            first: meter
                .f64_histogram("gen_ai.server.time_to_first_token")
                .with_unit("s")
                .with_description("Time from a request to a model until the first token of its answer")
                .with_boundaries(vec![
                    0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
                ])
                .build(),
            rate: meter
                .f64_histogram("weft_gateway_tokens_per_second")
                .with_description("Tokens of a stream per second, after the first one")
                .with_boundaries(vec![1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 200.0, 500.0])
                .build(),
        }
    }

    /// Notes when the first one of an answer came.
    pub(crate) fn first(&self, labels: &[KeyValue], after: Duration) {
        self.first.record(after.as_secs_f64(), labels);
    }

    /// Notes how fast the further ones came.
    pub(crate) fn rate(&self, labels: &[KeyValue], per_second: f64) {
        self.rate.record(per_second, labels);
    }
}

fn labels(rule: &Rule) -> [KeyValue; 2] {
    [KeyValue::new("pool", rule.pool.clone()), KeyValue::new("route", rule.label.clone())]
}

/// What is known of each backend.
fn backends(pools: &Pools) {
    let meter = global::meter("weft-gateway");
    let gauges: [(&str, &str, Value<Backend>); 2] = [
        ("weft_gateway_backend_in_flight", "Calls in flight to a backend", Backend::in_flight),
        ("weft_gateway_backend_healthy", "1 while a backend is in rotation", |backend| {
            u64::from(is_in_rotation(backend))
        }),
    ];
    for (name, description, value) in gauges {
        let observe = of_backends(pools, value);
        meter.u64_observable_gauge(name).with_description(description).with_callback(observe).build();
    }
    let counters: [(&str, &str, Value<Backend>); 2] = [
        ("weft_gateway_backend_calls", "Calls given to a backend", Backend::calls),
        ("weft_gateway_backend_failures", "Calls a backend failed", Backend::failures),
    ];
    for (name, description, value) in counters {
        let observe = of_backends(pools, value);
        meter.u64_observable_counter(name).with_description(description).with_callback(observe).build();
    }
}

fn of_backends(
    pools: &Pools,
    value: fn(&Backend) -> u64,
) -> impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static {
    let pools = pools.clone();
    move |instrument| {
        for entry in pools.iter() {
            for backend in entry.pool.backends.list().iter() {
                let labels = [
                    KeyValue::new("pool", entry.config.name.clone()),
                    KeyValue::new("backend", backend.address().to_owned()),
                ];
                instrument.observe(value(backend), &labels);
            }
        }
    }
}

fn is_in_rotation(backend: &Backend) -> bool {
    backend.health() == Health::Healthy && !backend.draining() && !backend.is_ejected(Instant::now())
}

/// What is counted of each pool's attempts, under the names that Envoy's cluster statistics have.
fn tallies(pools: &Pools) {
    for (name, description, _) in Tally::default().all() {
        let pools = pools.clone();
        global::meter("weft-gateway")
            .u64_observable_counter(format!("weft_gateway_{name}"))
            .with_description(description)
            .with_callback(move |counter| {
                for entry in pools.iter() {
                    let counts = entry.pool.tally.all();
                    for (_, _, value) in counts.filter(|(counted, _, _)| *counted == name) {
                        counter.observe(value, &[KeyValue::new("pool", entry.config.name.clone())]);
                    }
                }
            })
            .build();
    }
}

/// How old the lists of models are that count.
fn lists(pools: &Pools) {
    let pools = pools.clone();
    global::meter("weft-gateway")
        .f64_observable_gauge("weft_gateway_models_age_seconds")
        .with_description("Time since a pool has listed its models; absent while no list counts")
        .with_callback(move |gauge| {
            for entry in pools.iter() {
                if let Some(age) = entry.catalogue().and_then(|catalogue| catalogue.age()) {
                    gauge.observe(age.as_secs_f64(), &[KeyValue::new("pool", entry.config.name.clone())]);
                }
            }
        })
        .build();
}

/// How each pool is, under the names that Envoy's cluster statistics have.
fn states(pools: &Pools) {
    fn count(pool: &Pool, which: fn(&Backend) -> bool) -> u64 {
        pool.backends.list().iter().filter(|backend| which(backend)).count() as u64
    }
    let gauges: [(&str, &str, Value<Pool>); 6] = [
        ("upstream_rq_active", "Attempts in flight", |pool| {
            pool.backends.list().iter().map(|backend| backend.in_flight()).sum()
        }),
        ("upstream_rq_pending_active", "Calls that wait for room", |pool| pool.waiting() as u64),
        ("upstream_cx_active", "Connections that are open", |pool| pool.tally.open_connections()),
        ("membership_total", "Backends", |pool| count(pool, |_| true)),
        ("membership_healthy", "Backends in rotation", |pool| count(pool, is_in_rotation)),
        ("outlier_detection_ejections_active", "Backends that are ejected", |pool| {
            count(pool, |backend| backend.is_ejected(Instant::now()))
        }),
    ];
    for (name, description, value) in gauges {
        let pools = pools.clone();
        global::meter("weft-gateway")
            .u64_observable_gauge(format!("weft_gateway_{name}"))
            .with_description(description)
            .with_callback(move |gauge| {
                for entry in pools.iter() {
                    gauge.observe(value(&entry.pool), &[KeyValue::new("pool", entry.config.name.clone())]);
                }
            })
            .build();
    }
}
