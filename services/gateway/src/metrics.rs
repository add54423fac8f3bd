//! Every instrument of the gateway. Counts live in the balancer and in plain atomics; they are read when scraped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, Histogram},
};
use weft_balance::{Backend, Health};
use weft_mesh::pool::Tally;

use crate::{access_log::AccessLog, admin::Pools, gate::Gate};

/// What the gateway counts of itself.
#[derive(Debug)]
pub(crate) struct Totals {
    /// When it started.
    pub(crate) started: Instant,
    /// Client connections that are open.
    pub(crate) connections: AtomicI64,
    /// Calls forwarded.
    pub(crate) calls: AtomicU64,
    /// Calls refused because too many were in flight.
    pub(crate) shed: AtomicU64,
    /// Calls in flight.
    pub(crate) in_flight: Gate,
}

/// The gateway's instruments. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) totals: Arc<Totals>,
    /// `weft_gateway_call_duration_seconds`.
    duration: Histogram<f64>,
}

impl Metrics {
    pub(crate) fn new(pools: &Pools, access_log: Option<&AccessLog>) -> Self {
        let totals = Arc::new(Totals {
            started: Instant::now(),
            connections: AtomicI64::new(0),
            calls: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            in_flight: Gate::default(),
        });
        let meter = global::meter("weft-gateway");
        observe(pools, "weft_gateway_backend_in_flight", "Calls in flight to a backend", Backend::in_flight);
        observe(pools, "weft_gateway_backend_healthy", "1 while a backend is in rotation", |backend| {
            u64::from(backend.health() == Health::Healthy && !backend.draining())
        });
        observe(pools, "weft_gateway_backend_calls", "Calls given to a backend", Backend::calls);
        observe(pools, "weft_gateway_backend_failures", "Calls a backend failed", Backend::failures);
        let counted = Arc::clone(&totals);
        meter
            .i64_observable_gauge("weft_gateway_client_connections")
            .with_description("Client connections that are open")
            .with_callback(move |gauge| gauge.observe(counted.connections.load(Ordering::Relaxed), &[]))
            .build();
        let counted = Arc::clone(&totals);
        meter
            .u64_observable_counter("weft_gateway_calls_shed")
            .with_description("Calls refused because too many were in flight")
            .with_callback(move |counter| counter.observe(counted.shed.load(Ordering::Relaxed), &[]))
            .build();
        if let Some(log) = access_log.cloned() {
            meter
                .u64_observable_counter("weft_gateway_access_log_dropped")
                .with_description("Lines of the access log dropped because too many waited to be written")
                .with_callback(move |counter| counter.observe(log.dropped(), &[]))
                .build();
        }
        tallies(pools);
        let duration = meter
            .f64_histogram("weft_gateway_call_duration_seconds")
            .with_description("Duration of forwarded calls, until the last byte of the response")
            .with_boundaries(vec![0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0])
            .build();
        Self { totals, duration }
    }

    /// Notes a call that ended.
    pub(crate) fn ended(&self, labels: &[KeyValue], began: Instant) {
        self.duration.record(began.elapsed().as_secs_f64(), labels);
    }
}

fn observe(pools: &Pools, name: &'static str, description: &'static str, value: fn(&Backend) -> u64) {
    let pools = pools.clone();
    let callback = move |gauge: &dyn AsyncInstrument<u64>| {
        for entry in pools.iter() {
            for backend in entry.pool.backends.list().iter() {
                let labels = [
                    KeyValue::new("pool", entry.config.name.clone()),
                    KeyValue::new("backend", backend.address().to_owned()),
                ];
                gauge.observe(value(backend), &labels);
            }
        }
    };
    global::meter("weft-gateway")
        .u64_observable_gauge(name)
        .with_description(description)
        .with_callback(callback)
        .build();
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
