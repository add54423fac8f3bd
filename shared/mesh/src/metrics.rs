//! What is measured of gRPC calls, under gRPC's own names and with its buckets (gRFC A66).
//!
//! Sizes are those of message bodies as they are sent, gRPC's own five bytes before each message included. A method that
//! no known contract has is `other`, so that callers cannot make up labels.

use std::{fmt, sync::OnceLock, time::Duration};

use opentelemetry::{
    KeyValue, global,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram},
};
use weft_balance::verdict::Code;

use crate::methods::{Method, Methods};

const SECONDS: [f64; 41] = [
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008,
    0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4,
    0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];
const BYTES: [f64; 14] = [
    0.0,
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];
const OTHER: &str = "other";

/// The calls of one side, measured by method and status.
pub struct Calls {
    instruments: Instruments,
    /// Which pool they go to, where it is this side that calls.
    target: Option<String>,
    /// By [`Method::id`].
    methods: Box<[OfMethod]>,
}

struct Instruments {
    started: Counter<u64>,
    duration: Histogram<f64>,
    sent: Histogram<u64>,
    received: Histogram<u64>,
}

/// The instruments with their labels, made when they are first needed.
struct OfMethod {
    name: String,
    started: OnceLock<BoundCounter<u64>>,
    by_code: OnceLock<Box<[OnceLock<Ended>; Code::ALL.len()]>>,
}

struct Ended {
    duration: BoundHistogram<f64>,
    sent: BoundHistogram<u64>,
    received: BoundHistogram<u64>,
}

/// How much a call carried, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// By this side.
    pub sent: u64,
    /// By the other one.
    pub received: u64,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Calls {
    /// Attempts at calls to a pool: `grpc.client.attempt.*`.
    #[must_use]
    pub fn attempts(pool: &str, methods: &Methods) -> Self {
        Self::new("grpc.client.attempt", "Attempts at calls", Some(pool.to_owned()), methods)
    }

    /// Calls that are served: `grpc.server.call.*`.
    #[must_use]
    pub fn served(methods: &Methods) -> Self {
        Self::new("grpc.server.call", "Calls served", None, methods)
    }

    fn new(family: &str, what: &str, target: Option<String>, methods: &Methods) -> Self {
        let names = std::iter::once(OTHER).chain(methods.names());
        let of = |name: &str| OfMethod {
            name: name.to_owned(),
            started: OnceLock::new(),
            by_code: OnceLock::new(),
        };
        Self { instruments: Instruments::new(family, what), target, methods: names.map(of).collect() }
    }

    /// One begins.
    pub fn begun(&self, method: Method) {
        let Some(of) = self.methods.get(method.id()) else { return };
        of.started.get_or_init(|| self.instruments.started.bind(&self.labels(of, None))).add(1);
    }

    /// One has ended.
    pub fn ended(&self, method: Method, code: Code, took: Duration, sizes: Sizes) {
        let Some(of) = self.methods.get(method.id()) else { return };
        let by_code = of.by_code.get_or_init(|| Box::new([const { OnceLock::new() }; Code::ALL.len()]));
        let Some(ended) = by_code.get(code as usize) else { return };
        let ended = ended.get_or_init(|| self.instruments.ended(&self.labels(of, Some(code))));
        ended.duration.record(took.as_secs_f64());
        ended.sent.record(sizes.sent);
        ended.received.record(sizes.received);
    }

    fn labels(&self, of: &OfMethod, code: Option<Code>) -> Vec<KeyValue> {
        let mut labels = vec![KeyValue::new("grpc.method", of.name.clone())];
        labels.extend(self.target.clone().map(|target| KeyValue::new("grpc.target", target)));
        labels.extend(code.map(|code| KeyValue::new("grpc.status", code.as_str())));
        labels
    }
}

impl Instruments {
    fn new(family: &str, what: &str) -> Self {
        let meter = global::meter("weft-mesh");
        let sizes = |name: &str, which: &str| {
            meter
                .u64_histogram(format!("{family}.{name}_total_compressed_message_size"))
                .with_unit("By")
                .with_description(format!("{what}: bytes of messages {which}"))
                .with_boundaries(BYTES.to_vec())
                .build()
        };
        Self {
            started: meter
                .u64_counter(format!("{family}.started"))
                .with_description(format!("{what}: begun"))
                .build(),
            duration: meter
                .f64_histogram(format!("{family}.duration"))
                .with_unit("s")
                .with_description(format!("{what}: time until the last byte of the response"))
                .with_boundaries(SECONDS.to_vec())
                .build(),
            sent: sizes("sent", "sent"),
            received: sizes("rcvd", "received"),
        }
    }

    fn ended(&self, labels: &[KeyValue]) -> Ended {
        Ended {
            duration: self.duration.bind(labels),
            sent: self.sent.bind(labels),
            received: self.received.bind(labels),
        }
    }
}
