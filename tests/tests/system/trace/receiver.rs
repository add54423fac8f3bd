//! An OTLP receiver in the test's own process, and the spans it was sent.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{ResourceSpans, span::SpanKind},
};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status, async_trait};
use weft_runtime::{
    Assembly, Config, Listeners, Running, Scope, Service,
    config::{Admin, Lifecycle, Problems, Telemetry},
    start,
};

/// A span, and the process that sent it. Ids are hex, empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) process: String,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
}

#[derive(Clone, Default)]
pub(super) struct Received(Arc<Mutex<Vec<Span>>>);

impl Received {
    /// Everything that has come so far.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

/// Starts a receiver on a free port.
pub(super) async fn receive() -> (Running, Received) {
    let config = ReceiverConfig::default();
    let received = config.received.clone();
    let listeners = Listeners::bind(&config).await.unwrap();
    (start::<Receiver>(config, listeners).await.unwrap(), received)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spans_of(sent: ResourceSpans) -> impl Iterator<Item = Span> {
    let attributes = sent.resource.unwrap_or_default().attributes;
    let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
    let process = match name.and_then(|name| name.value?.value) {
        Some(Value::StringValue(name)) => name,
        _ => String::new(),
    };
    sent.scope_spans.into_iter().flat_map(|scope| scope.spans).map(move |span| Span {
        process: process.clone(),
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
    })
}

#[async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(spans_of);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The receiver as a service, which the runtime serves.
struct Receiver;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ReceiverConfig {
    admin: Admin,
    lifecycle: Lifecycle,
    telemetry: Telemetry,
    #[serde(skip)]
    received: Received,
}

impl Config for ReceiverConfig {
    fn address(&self) -> Option<&str> {
        Some("127.0.0.1:0")
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
    fn validate(&self, _: &mut Problems) {}
}

impl Service for Receiver {
    const NAME: &'static str = "receiver";
    type Config = ReceiverConfig;

    async fn assemble(config: ReceiverConfig, scope: Scope) -> anyhow::Result<Assembly> {
        scope.ready.set(Ok(()));
        Ok(Assembly::grpc(TraceServiceServer::new(config.received)))
    }
}
