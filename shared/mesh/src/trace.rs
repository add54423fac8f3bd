//! W3C trace context across every hop: gRPC and HTTP headers, and a plain string for stores and brokers.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// Makes a span the child of the caller's, when the headers carry one.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
        let _ = span.set_parent(parent);
    }
}

/// Writes the current span into headers, over what they carried; leaves them alone when there is no sampled span.
pub fn inject(headers: &mut HeaderMap) {
    inject_from(&Span::current(), headers);
}

/// The same of another span.
pub fn inject_from(span: &Span, headers: &mut HeaderMap) {
    let context = span.context();
    if context.span().span_context().is_valid() {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut HeadersMut(headers));
        });
    }
}

/// The current span as a `traceparent` value, for rows and messages; `None` when there is none.
#[must_use]
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut headers = HeaderMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut HeadersMut(&mut headers));
    headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Makes a span the child of one stored by [`traceparent`].
pub fn adopt_traceparent(span: &Span, traceparent: &str) {
    if let Ok(value) = HeaderValue::try_from(traceparent) {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", value);
        let parent: Context = TraceContextPropagator::new().extract(&Headers(&headers));
        let _ = span.set_parent(parent);
    }
}

/// The id of the current trace as hex; empty when there is none.
#[must_use]
pub fn trace_id() -> String {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() { span.trace_id().to_string() } else { String::new() }
}
