//! Logs, traces and metrics of a process: set up once, flushed at the end.

use std::{
    io::IsTerminal as _,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource, metrics::SdkMeterProvider, propagation::TraceContextPropagator, trace::SdkTracerProvider,
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogFormat, Telemetry as Config};

static REGISTRY: OnceLock<Registry> = OnceLock::new();
static TRACING: AtomicBool = AtomicBool::new(false);

/// Whether spans are exported. A path too hot for spans that nobody sees asks first.
#[must_use]
pub fn traces_are_exported() -> bool {
    TRACING.load(Ordering::Relaxed)
}

/// What has to be flushed before the process ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: SdkMeterProvider,
}

/// Sets up the process's logs, traces and metrics. Runs inside the runtime, which the exporter needs. Called again, as
/// tests do, it leaves what stands.
///
/// # Errors
/// When the exporter's endpoint cannot be used.
pub fn init(service: &str, config: &Config) -> anyhow::Result<Telemetry> {
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let metrics = metrics(resource.clone())?;
    global::set_meter_provider(metrics.clone());
    let traces = config.otlp_endpoint.as_deref().map(|endpoint| traces(endpoint, resource)).transpose()?;
    TRACING.fetch_or(traces.is_some(), Ordering::Relaxed);
    let filter: EnvFilter = config.log.parse().context("telemetry.log")?;
    let spans = traces.as_ref().map(|traces| {
        let tracer = traces.tracer("weft");
        // Spans are exported whatever the log filter says, down to info.
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_filter(EnvFilter::new("off,weft=info"))
    });
    let logs = match config.log_format {
        LogFormat::Pretty => tracing_subscriber::fmt::layer()
            .compact()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    let _ = tracing_subscriber::registry().with(spans).with(logs.with_filter(filter)).try_init();
    Ok(Telemetry { traces, metrics })
}

fn metrics(resource: Resource) -> anyhow::Result<SdkMeterProvider> {
    let registry = REGISTRY.get_or_init(Registry::new).clone();
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry)
        .scope_info_enabled(false)
        .without_target_info()
        .build()
        .context("cannot set up metrics")?;
    Ok(SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build())
}

fn traces(endpoint: &str, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("telemetry.otlp_endpoint: cannot export to {endpoint}"))?;
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// All metrics of the process in Prometheus' text format.
pub(crate) fn prometheus_text() -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(registry) = REGISTRY.get()
        && let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text)
    {
        tracing::warn!(%error, "metrics cannot be encoded");
    }
    text
}

impl Telemetry {
    /// Sends what has not been sent. Off the runtime's threads, which the exporter needs meanwhile.
    pub async fn shutdown(self) {
        let flushed = tokio::task::spawn_blocking(move || {
            let traces = self.traces.map_or(Ok(()), |traces| traces.shutdown());
            traces.and(self.metrics.shutdown())
        });
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "telemetry was not flushed");
        }
    }
}
