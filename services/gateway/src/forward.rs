//! Forwarding a call: route, send, stream back. Bytes in, bytes out.

mod answer;
mod headers;
mod response;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};
use tracing::{Instrument, Span, field::Empty};
use weft_mesh::{Replay, context::TIMEOUT_HEADER, error::MeshError, pool::Upstream, timeout, trace};

use weft_runtime::Readiness;

pub use response::Body;
use response::{Ended, Forwarded};

use crate::{
    config::{self, Protocol},
    metrics::Metrics,
    route::{Routes, View},
};

/// A pool as one forwarding thread has it.
pub(crate) struct Target {
    upstream: Upstream<Incoming>,
    protocol: Protocol,
    timeout: Duration,
}

impl Target {
    pub(crate) const fn new(upstream: Upstream<Incoming>, config: &config::Pool) -> Self {
        Self { upstream, protocol: config.protocol, timeout: config.timeout }
    }
}

/// Forwards the calls of one thread. Clones are the same.
#[derive(Clone)]
pub(crate) struct Forwarder {
    inner: Arc<Inner>,
}

struct Inner {
    routes: Arc<Routes>,
    targets: HashMap<String, Arc<Target>>,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    ready: Readiness,
}

impl Forwarder {
    pub(crate) fn new(
        routes: Arc<Routes>,
        targets: HashMap<String, Arc<Target>>,
        metrics: Metrics,
        permits: Arc<Semaphore>,
        ready: Readiness,
    ) -> Self {
        Self { inner: Arc::new(Inner { routes, targets, metrics, permits, ready }) }
    }

    /// Counts a client's connection until the guard is dropped.
    pub(crate) fn count_connection(&self) -> impl Drop + use<> {
        struct Counted(Metrics);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.totals.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.inner.metrics.totals.connections.fetch_add(1, Ordering::Relaxed);
        Counted(self.inner.metrics.clone())
    }

    /// Forwards one request and answers with the backend's response, or with the gateway's own refusal.
    pub(crate) async fn forward(self, request: Request<Incoming>) -> Response<Body> {
        let grpc = is_grpc(request.headers());
        let Ok(permit) = Arc::clone(&self.inner.permits).try_acquire_owned() else {
            return answer::refuse(MeshError::Overloaded, grpc);
        };
        let host = host(&request);
        let view = View { grpc, host, path: request.uri().path() };
        let Some(target) = self.inner.routes.find(view).and_then(|pool| self.inner.targets.get(pool)) else {
            return answer::no_route(&request, grpc, &self.inner.ready);
        };
        let span = if weft_runtime::telemetry::traces_are_exported() { span(&request) } else { Span::none() };
        let target = Arc::clone(target);
        self.send(target, request, grpc, permit, span.clone()).instrument(span).await
    }

    async fn send(
        self,
        target: Arc<Target>,
        mut request: Request<Incoming>,
        grpc: bool,
        permit: OwnedSemaphorePermit,
        span: Span,
    ) -> Response<Body> {
        let began = Instant::now();
        let deadline = match deadline(request.headers(), target.timeout, began) {
            Ok(deadline) => deadline,
            Err(error) => return answer::refuse(error, grpc),
        };
        if target.protocol == Protocol::Http {
            headers::strip_hop_by_hop(request.headers_mut());
        }
        if request.headers().contains_key(TIMEOUT_HEADER) {
            let left = timeout::encode(deadline.saturating_duration_since(Instant::now()));
            if let Ok(left) = HeaderValue::try_from(left) {
                request.headers_mut().insert(TIMEOUT_HEADER, left);
            }
        }
        trace::inject(request.headers_mut());
        let ended =
            Ended::begin(&self.inner.metrics, target.upstream.pool().name(), grpc, began, permit, span);
        let request = request.map(Replay::new);
        let keeper = request.body().keeper();
        let call = target.upstream.call(request);
        let outcome = match timeout_at(deadline.into(), call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(MeshError::DeadlineExceeded { pool: target.upstream.pool().name().to_owned() }),
        };
        match outcome {
            Ok(mut response) => {
                keeper.commit();
                headers::strip_hop_by_hop(response.headers_mut());
                Forwarded::respond(response, ended, grpc, deadline)
            }
            Err(error) => {
                tracing::debug!(error = %weft_mesh::error::chain(&error), "call failed");
                ended.refused(&error);
                answer::refuse(error, grpc)
            }
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn host<B>(request: &Request<B>) -> &str {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| request.headers().get(header::HOST)?.to_str().ok()).unwrap_or_default()
}

/// Until when a call may take: what its client says, else the pool's limit.
fn deadline(headers: &HeaderMap, limit: Duration, now: Instant) -> Result<Instant, MeshError> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(now + limit) };
    let asked = value.to_str().ok().and_then(timeout::parse);
    let asked = asked.ok_or(MeshError::Metadata { field: "grpc-timeout", problem: "is not a timeout" })?;
    Ok(now.checked_add(asked).unwrap_or(now + limit))
}

fn span(request: &Request<Incoming>) -> Span {
    let method = request.uri().path().trim_start_matches('/');
    let span = tracing::info_span!(
        "forward",
        otel.name = method,
        otel.kind = "server",
        rpc.system.name = "grpc",
        rpc.method = method,
        server.address = Empty,
        rpc.response.status_code = Empty
    );
    trace::adopt(&span, request.headers());
    span
}
