//! What happens around every call: its context, its span, its deadline, its place among those in flight, its metrics.

use std::{
    future::Future,
    pin::Pin,
    slice,
    sync::{Arc, LazyLock},
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use axum::{Router, body::Body, response::IntoResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use opentelemetry::KeyValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep_until, timeout_at},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Code;
use tower::ServiceExt;
use tracing::{Instrument, Span, field::Empty};
use weft_mesh::{
    context::{self, Context},
    error::{Classify, MeshError, status},
    load_report,
    methods::Methods,
    trace,
};

use crate::{
    access::{Audit, Guard},
    metrics::{Metrics, RPC_STATUS},
};

/// The methods of probes.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The one call of the runtime's own that never ends by itself.
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Probes that may be in flight. Everybody who balances watches once, so this is many.
const MAX_PROBES: usize = 4096;

/// Serves a router with everything around it.
#[derive(Clone)]
pub(crate) struct Calls {
    router: Router,
    guard: Guard,
    seats: Seats,
    /// A full server is not an ill one, and who watches it is no load: probes have seats of their own.
    probes: Seats,
    metrics: Metrics,
    draining: CancellationToken,
}

impl Calls {
    pub(crate) fn new(
        (router, guard): (Router, Guard),
        max_in_flight: usize,
        metrics: Metrics,
        draining: CancellationToken,
    ) -> Self {
        let (seats, probes) = (Seats::new(max_in_flight), Seats::new(MAX_PROBES));
        Self { router, guard, seats, probes, metrics, draining }
    }

    /// Handles one request.
    pub(crate) async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let mut record = Record::begin(&self.metrics, &self.seats, &request);
        if request.uri().path() == HEALTH_WATCH {
            record.ends_with = Some(Box::pin(self.draining.clone().cancelled_owned()));
        }
        let grpc = record.grpc;
        let admitted = match self.guard.admit(request.uri().path(), request.headers(), Instant::now()) {
            Ok(admitted) => admitted,
            Err(error) => return record.around(refuse(error, grpc), None, Span::none(), None),
        };
        let context = admitted.context;
        record.audit = admitted.audit;
        let seats = if request.uri().path().starts_with(HEALTH) { &self.probes } else { &self.seats };
        let Some(permit) = seats.take() else {
            return record.around(refuse(MeshError::Overloaded, grpc), None, Span::none(), None);
        };
        let span = span(&request, grpc);
        let router = self.router.clone();
        let work =
            context::scope(context.clone(), router.oneshot(request.map(Body::new))).instrument(span.clone());
        let response = match context.deadline {
            None => work.await,
            Some(deadline) => match timeout_at(deadline.into(), work).await {
                Ok(response) => response,
                Err(_) => Ok(refuse(MeshError::DeadlineExceeded { pool: "the handler".to_owned() }, grpc)),
            },
        };
        let response = response.unwrap_or_else(|never| match never {});
        record.around(response, Some(permit), span, Some(context))
    }
}

/// How many calls may be in flight, and how many are.
#[derive(Clone)]
struct Seats {
    permits: Arc<Semaphore>,
    capacity: usize,
}

impl Seats {
    fn new(capacity: usize) -> Self {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(capacity)), capacity }
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    fn taken(&self) -> usize {
        self.capacity.saturating_sub(self.permits.available_permits())
    }
}

/// The answer of the runtime itself, in the caller's protocol.
fn refuse(error: MeshError, grpc: bool) -> Response<Body> {
    if grpc {
        return status(error).into_http::<Body>();
    }
    let body = serde_json::json!({ "error": { "reason": error.reason(), "message": error.to_string() } });
    (error.kind().http_status(), axum::Json(body)).into_response()
}

/// The answer to a path that nothing serves.
pub(crate) async fn unknown(request: Request<Body>) -> Response<Body> {
    if is_grpc(request.headers()) {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response.headers_mut().insert("grpc-status", HeaderValue::from(Code::Unimplemented as i32));
        return response;
    }
    let body = serde_json::json!({ "error": { "reason": "NOT_FOUND", "message": "nothing is served at this path" } });
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A span for a request; none for probes, which would drown the others.
fn span(request: &Request<Incoming>, grpc: bool) -> Span {
    let path = request.uri().path();
    if path.starts_with("/grpc.") || matches!(path, "/health" | "/livez" | "/readyz" | "/metrics") {
        return Span::none();
    }
    let span = if grpc {
        let method = path.trim_start_matches('/');
        tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.response.status_code = Empty
        )
    } else {
        let method = request.method().as_str();
        tracing::info_span!(
            "http",
            otel.name = method,
            otel.kind = "server",
            http.request.method = method,
            url.path = path,
            http.response.status_code = Empty
        )
    };
    trace::adopt(&span, request.headers());
    span
}

/// A call being measured. Measures when it is dropped, however the call ended.
struct Record {
    metrics: Metrics,
    /// Those of calls, also for a probe.
    seats: Seats,
    began: Instant,
    grpc: bool,
    method: KeyValue,
    status: Option<String>,
    /// Told how the call ended.
    audit: Option<Audit>,
    /// When this is over, so is the response.
    ends_with: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Record {
    fn begin(metrics: &Metrics, seats: &Seats, request: &Request<Incoming>) -> Self {
        let grpc = is_grpc(request.headers());
        let method = if grpc {
            KeyValue::new("rpc.method", method_label(request.uri().path()))
        } else {
            KeyValue::new("http.request.method", http_label(request.method()))
        };
        metrics.in_flight.add(1, slice::from_ref(&metrics.service));
        let (metrics, seats, began) = (metrics.clone(), seats.clone(), Instant::now());
        Self { metrics, seats, began, grpc, method, status: None, audit: None, ends_with: None }
    }

    fn around(
        mut self,
        response: Response<Body>,
        permit: Option<OwnedSemaphorePermit>,
        span: Span,
        context: Option<Context>,
    ) -> Response<Body> {
        if self.grpc {
            self.note(response.headers(), &span);
        } else {
            self.status = Some(response.status().as_u16().to_string());
            span.record("http.response.status_code", response.status().as_u16());
        }
        let alarm = context.as_ref().and_then(|context| context.deadline);
        let alarm = alarm.map(|deadline| Box::pin(sleep_until(deadline.into())));
        response.map(|body| Body::new(Handled { body, record: self, span, context, alarm, permit }))
    }

    fn note(&mut self, headers: &HeaderMap, span: &Span) {
        if let Some(code) = headers.get("grpc-status") {
            let name = code_name(Code::from_bytes(code.as_bytes()));
            span.record("rpc.response.status_code", name);
            self.status = Some(name.to_owned());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let status = self.status.take().unwrap_or_else(|| "CANCELLED".to_owned());
        if let Some(audit) = self.audit.take() {
            audit.tell(&status);
        }
        let elapsed = self.began.elapsed().as_secs_f64();
        let (method, service) = (self.method.clone(), self.metrics.service.clone());
        self.metrics.in_flight.add(-1, slice::from_ref(&service));
        if self.grpc {
            let labels = [method, KeyValue::new(RPC_STATUS, status), service];
            self.metrics.rpc_duration.record(elapsed, &labels);
        } else {
            let labels = [method, KeyValue::new("http.response.status_code", status), service];
            self.metrics.http_duration.record(elapsed, &labels);
        }
    }
}

/// Only methods of known contracts become labels.
fn method_label(path: &str) -> String {
    static HEALTH: LazyLock<[&str; 2]> = LazyLock::new(|| ["/grpc.health.v1.Health/Check", HEALTH_WATCH]);
    if Methods::weft().contains(path) || HEALTH.contains(&path) {
        path.trim_start_matches('/').to_owned()
    } else {
        "_OTHER".to_owned()
    }
}

fn http_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The name of a code as semantic conventions spell it.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A response body in the context of its call.
struct Handled {
    body: Body,
    record: Record,
    span: Span,
    context: Option<Context>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Held until the response has ended.
    permit: Option<OwnedSemaphorePermit>,
}

impl Handled {
    /// Adds to the trailers how many calls are in flight here, for those who balance.
    fn report_load(&self, trailers: &mut HeaderMap) {
        if self.permit.is_some() {
            load_report::report(trailers, self.record.seats.taken() as u64);
        }
    }

    /// Ends the response with a status in its trailers.
    fn cut(&mut self, error: MeshError) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.alarm = None;
        self.record.ends_with = None;
        self.body = Body::empty();
        let (parts, ()) = status(error).into_http::<()>().into_parts();
        self.record.note(&parts.headers, &self.span);
        let mut trailers = parts.headers;
        trailers.remove(header::CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for Handled {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let mut polled = {
            let _entered = this.span.enter();
            let body = Pin::new(&mut this.body);
            match &this.context {
                Some(context) => context::sync_scope(context, || body.poll_frame(cx)),
                None => body.poll_frame(cx),
            }
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            this.record.note(trailers, &this.span);
            this.report_load(trailers);
        }
        if polled.is_pending()
            && let Some(alarm) = &mut this.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            return this.cut(MeshError::DeadlineExceeded { pool: "the handler".to_owned() });
        }
        if polled.is_pending()
            && let Some(end) = &mut this.record.ends_with
            && end.as_mut().poll(cx).is_ready()
        {
            return this.cut(MeshError::NoHealthyBackends { pool: "a draining server".to_owned() });
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
