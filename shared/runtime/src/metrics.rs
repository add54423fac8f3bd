//! Every instrument of the runtime.

use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, UpDownCounter},
};

/// The attribute of a call's status. The name is moving in semantic conventions; it stands here once.
pub(crate) const RPC_STATUS: &str = "rpc.response.status_code";

/// What is measured of every call a service handles.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// `rpc.server.call.duration`, seconds.
    pub(crate) rpc_duration: Histogram<f64>,
    /// `http.server.request.duration`, seconds.
    pub(crate) http_duration: Histogram<f64>,
    /// `weft_server_in_flight`.
    pub(crate) in_flight: UpDownCounter<i64>,
    /// `weft_server_connections`.
    pub(crate) connections: UpDownCounter<i64>,
    /// The service, on every point.
    pub(crate) service: KeyValue,
}

impl Metrics {
    pub(crate) fn new(service: &'static str) -> Self {
        let meter = global::meter("weft-runtime");
        let seconds =
            vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self {
            rpc_duration: meter
                .f64_histogram("rpc.server.call.duration")
                .with_unit("s")
                .with_description("Duration of gRPC calls, until the last byte of the response")
                .with_boundaries(seconds.clone())
                .build(),
            http_duration: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_description("Duration of HTTP requests, until the last byte of the response")
                .with_boundaries(seconds)
                .build(),
            in_flight: meter
                .i64_up_down_counter("weft_server_in_flight")
                .with_description("Calls and requests being handled")
                .build(),
            connections: meter
                .i64_up_down_counter("weft_server_connections")
                .with_description("Client connections that are open")
                .build(),
            service: KeyValue::new("service", service),
        }
    }
}
