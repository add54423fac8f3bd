//! Forwarding a call: route, admit, send, stream back. Bytes in, bytes out.

mod answer;
mod caller;
mod headers;
mod metered;
mod passage;
mod response;
mod tunnel;
mod unread;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use tracing::{Instrument, Span, field::Empty};
use weft_balance::{
    Class,
    retry::{Deadline, Limits},
};
use weft_mesh::{
    Replay,
    context::TIMEOUT_HEADER,
    error::MeshError,
    methods::{Method, Methods},
    terms::{Activity, Terms},
    timeout, trace,
    upstream::Upstream,
};
use weft_runtime::Scope;

pub(crate) use caller::Caller;
pub(crate) use metered::Metered;
pub use response::Body;

use crate::{
    access_log::AccessLog,
    config::{self, Config, HashOn, Overload, Priority, Protocol},
    gate::{self, Gate},
    metrics::{Durations, Metrics},
    route::{Redirection, Rule, View},
    table::Tables,
};
use passage::{Begun, Passage, Whence};
use response::Forwarded;
use tunnel::Asked;
use unread::Unread;

/// A pool as one forwarding thread has it.
pub(crate) struct Target {
    upstream: Arc<Upstream<Metered>>,
    protocol: Protocol,
    timeout: Duration,
    hash_on: Option<HashOn>,
    /// Zero for any.
    max_stream_age: Duration,
}

impl Target {
    pub(crate) fn new(upstream: Arc<Upstream<Metered>>, config: &config::Pool) -> Self {
        let hash_on = config.hash_on.as_deref().and_then(HashOn::parse);
        Self {
            upstream,
            protocol: config.protocol,
            timeout: config.timeout,
            hash_on,
            max_stream_age: config.max_stream_age,
        }
    }

    /// When a stream that begins now ends here: after its age, a tenth more or less.
    fn stream_ends(&self, now: Instant) -> Option<Instant> {
        let age = self.max_stream_age;
        let jittered = age.mul_f64(0.2f64.mul_add(fastrand::f64(), 0.9));
        if age.is_zero() { None } else { now.checked_add(jittered) }
    }

    /// What keeps this call together with others like it.
    fn key(&self, headers: &HeaderMap) -> Option<u64> {
        self.hash_on.as_ref().and_then(|on| on.value(headers)).map(weft_balance::hash)
    }
}

/// What becomes of the calls of a route.
#[derive(Clone)]
pub(crate) enum Way {
    /// They are forwarded.
    Forward(Arc<Lane>),
    /// They are sent elsewhere.
    Redirect(Arc<Rule>),
}

/// Where the calls of a route are forwarded to, and what holds for them.
pub(crate) struct Lane {
    pub(crate) rule: Rule,
    pub(crate) target: Arc<Target>,
    /// Counts the route's calls on all threads.
    pub(crate) gate: Gate,
    pub(crate) durations: Durations,
    pub(crate) bounds: Arc<Bounds>,
}

/// What holds for the calls of all routes together.
pub(crate) struct Bounds {
    max_in_flight: usize,
    overload: Overload,
    /// Proxies whose word counts.
    trusted: Vec<IpNet>,
}

impl Bounds {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_in_flight: config.lifecycle.max_in_flight,
            overload: config.overload.clone(),
            trusted: config.trusted_proxies.iter().filter_map(|proxy| config::network(proxy)).collect(),
        }
    }
}

/// What all forwarding threads share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
    pub(crate) methods: Arc<Methods>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) scope: Scope,
}

/// Forwards the calls of one thread. Clones are the same.
#[derive(Clone)]
pub(crate) struct Forwarder {
    inner: Arc<Inner>,
}

struct Inner {
    tables: Arc<Tables>,
    thread: usize,
    common: Common,
    unread: Arc<Unread>,
}

impl Forwarder {
    /// Of one thread, counted from 0.
    pub(crate) fn new(tables: Arc<Tables>, thread: usize, common: Common) -> Self {
        Self { inner: Arc::new(Inner { tables, thread, common, unread: Arc::default() }) }
    }

    /// Counts a client's connection until the guard is dropped.
    pub(crate) fn count_connection(&self) -> impl Drop + use<> {
        struct Counted(Metrics);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.totals.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let metrics = &self.inner.common.metrics;
        metrics.totals.connections.fetch_add(1, Ordering::Relaxed);
        Counted(metrics.clone())
    }

    /// Forwards one request and answers with the backend's response, or with the gateway's own refusal.
    pub(crate) async fn forward(self, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let grpc = is_grpc(request.headers());
        let view = View {
            grpc,
            method: request.method().as_str(),
            host: host(&request),
            path: request.uri().path(),
            headers: request.headers(),
        };
        let inner = Arc::clone(&self.inner);
        let common = &inner.common;
        let whence = |span: &Span| {
            common.access_log.as_ref().map(|log| Whence::of(log, &request, caller.address, span))
        };
        if let Some(response) = answer::unfit(&request, grpc) {
            return passage::refused(whence(&Span::none()), "DPE", None, grpc, response);
        }
        let lane = match inner.tables.way(inner.thread, view) {
            Some(Way::Forward(lane)) => lane,
            Some(Way::Redirect(rule)) => {
                let location = rule.redirection.as_ref();
                let response = location.map(|to| redirect(to, view, &request, caller.scheme));
                let response = response.unwrap_or_else(|| Response::new(Body::empty()));
                return passage::refused(whence(&Span::none()), "-", Some(&rule), grpc, response);
            }
            None => {
                let Some(response) = answer::no_route(&request, grpc) else {
                    return answer::health(&common.scope.ready);
                };
                common.metrics.unrouted();
                return passage::refused(whence(&Span::none()), "NR", None, grpc, response);
            }
        };
        let Some(inside) = self.admit(&lane) else {
            common.metrics.shed(&lane.rule);
            let response = answer::refuse(MeshError::Overloaded, grpc);
            return passage::refused(whence(&Span::none()), "UO", Some(&lane.rule), grpc, response);
        };
        let span =
            if weft_runtime::telemetry::traces_are_exported() { span(&request, grpc) } else { Span::none() };
        let method = if grpc { common.methods.get(view.path) } else { http_method(&request) };
        let begun = Begun { method, grpc, span: span.clone(), whence: whence(&span) };
        let passage = Passage::begin(common.metrics.clone(), &lane, inside, begun);
        self.send(lane, request, passage, caller).instrument(span).await
    }

    /// A place among the calls in flight, of all and of the route.
    fn admit(&self, lane: &Lane) -> Option<passage::Admitted> {
        let bounds = &lane.bounds;
        let limit = gate::limit(bounds.max_in_flight, &bounds.overload, lane.rule.priority);
        let all = self.inner.common.gate.enter(limit)?;
        let route = lane.gate.enter(lane.rule.max_in_flight.unwrap_or(usize::MAX))?;
        Some((all, route))
    }

    async fn send(
        self,
        lane: Arc<Lane>,
        mut request: Request<Incoming>,
        mut passage: Passage,
        caller: Caller,
    ) -> Response<Body> {
        let (target, grpc, received) = (&lane.target, passage.grpc(), passage.received());
        let mut terms = match terms(&lane, &request, &passage) {
            Ok(terms) => terms,
            Err(error) => return passage.refuse(error),
        };
        passage.keyed(terms.key);
        let asked = match target.protocol {
            Protocol::Http => prepare(&lane, &mut request, &caller),
            // A service of gRPC has no use for any other method, and a tunnel would go to all of it.
            Protocol::Grpc if request.method() == HttpMethod::CONNECT => {
                return passage.refuse(MeshError::Method);
            }
            Protocol::Grpc => None,
        };
        let max = lane.rule.max_request_bytes.unwrap_or(lane.bounds.overload.max_request_bytes);
        let limit = if max == 0 { u64::MAX } else { max };
        let activity = terms.idle.clone();
        let request = request.map(|body| Replay::new(Metered::new(body, received.clone(), limit, activity)));
        match target.upstream.call(request, &terms, &mut passage.course).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                match asked.filter(|_| Asked::is_granted(&response)) {
                    Some(asked) => {
                        asked.open(response, passage, terms.idle, (caller, &self.inner.common.scope))
                    }
                    None => passage.betrayed(response),
                }
            }
            Ok(mut response) => {
                headers::strip_hop_by_hop(response.headers_mut());
                // Only gRPC can say in the middle of a response that there is more to be had elsewhere.
                terms.stream_ends = target.stream_ends(Instant::now()).filter(|_| grpc);
                let response = Forwarded::begin(response, passage, terms);
                response.map(|body| Body::forwarded(self.inner.unread.watch(body)))
            }
            Err(_) if received.bytes() > limit => passage.refuse(MeshError::TooLarge { limit }),
            Err(error) => {
                tracing::debug!(error = %weft_mesh::error::chain(&error), "call failed");
                passage.refuse(error)
            }
        }
    }

    /// Ends calls whose time is over although their clients read nothing, for as long as this thread forwards.
    pub(crate) async fn sweep(&self) {
        self.inner.unread.sweep().await;
    }
}

/// Makes of a request what a backend over HTTP/1.1 is asked: for itself, not for the client's connection, and with word
/// of who asks. Returns that the client wants a WebSocket, if it does.
fn prepare(lane: &Lane, request: &mut Request<Incoming>, caller: &Caller) -> Option<Asked> {
    let asked = Asked::of(request);
    let (rewriting, host) = (&lane.rule.rewriting, host(request).to_owned());
    let headers = request.headers_mut();
    headers::strip_hop_by_hop(headers);
    headers::join_cookies(headers);
    caller::introduce(headers, caller, &host, &lane.bounds.trusted);
    // What the target names counts, and not a second host beside it (RFC 9112 §3.2.2).
    if let Ok(host) = HeaderValue::try_from(rewriting.host.as_deref().unwrap_or(&host)) {
        headers.insert(header::HOST, host);
    }
    if let Some(path) = rewriting.path_and_query(request.uri()) {
        *request.uri_mut() = path.into();
    }
    if let Some(asked) = &asked {
        asked.ask(request);
    }
    asked
}

/// The answer that sends a client elsewhere.
fn redirect(to: &Redirection, view: View<'_>, request: &Request<Incoming>, scheme: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(to.status).unwrap_or(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(to.location(view, request.uri(), scheme)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// What holds for a call: by its headers, its route, and what contracts say of its method.
fn terms(lane: &Lane, request: &Request<Incoming>, passage: &Passage) -> Result<Terms, MeshError> {
    let (rule, method, grpc) = (&lane.rule, passage.method(), passage.grpc());
    let idempotent = method.idempotent || rule.idempotent;
    let limits = Limits { default: Some(rule.timeout.unwrap_or(lane.target.timeout)), max: rule.max_timeout };
    Ok(Terms {
        deadline: Deadline::new(asked(request.headers())?, limits, Instant::now()),
        idempotent,
        peek: grpc && idempotent && !method.streaming,
        grpc,
        key: lane.target.key(request.headers()),
        class: match rule.priority {
            Priority::Interactive => Class::Interactive,
            Priority::Batch => Class::Batch,
        },
        idle: rule.idle_timeout.map(Activity::new),
        method,
        trace_attempts: weft_runtime::telemetry::traces_are_exported(),
        stream_ends: None,
    })
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn host<B>(request: &Request<B>) -> &str {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| request.headers().get(header::HOST)?.to_str().ok()).unwrap_or_default()
}

/// GET, HEAD and the other safe methods may be repeated (RFC 9110 §9.2.2); what carries a body is left to the route.
fn http_method(request: &Request<Incoming>) -> Method {
    Method::unknown(request.method().is_safe())
}

/// The time a client gives its call.
fn asked(headers: &HeaderMap) -> Result<Option<Duration>, MeshError> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(None) };
    let asked = value.to_str().ok().and_then(timeout::parse);
    asked.map(Some).ok_or(MeshError::Metadata { field: "grpc-timeout", problem: "is not a timeout" })
}

fn span(request: &Request<Incoming>, grpc: bool) -> Span {
    let path = request.uri().path();
    let span = if grpc {
        let method = path.trim_start_matches('/');
        tracing::info_span!(
            "forward",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            server.address = Empty,
            rpc.response.status_code = Empty,
            weft.attempts = Empty,
        )
    } else {
        let method = request.method().as_str();
        tracing::info_span!(
            "forward",
            otel.name = method,
            otel.kind = "server",
            http.request.method = method,
            url.path = path,
            server.address = Empty,
            http.response.status_code = Empty,
            weft.attempts = Empty,
        )
    };
    trace::adopt(&span, request.headers());
    span
}
