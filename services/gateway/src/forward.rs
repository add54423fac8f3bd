//! Forwarding a call: route, admit, send, stream back. Bytes in, bytes out.

mod answer;
mod caller;
mod headers;
mod identity;
mod lane;
mod metered;
mod models;
mod passage;
mod request;
mod response;
mod tunnel;
mod unread;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::{HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::{Instrument, Span};
use weft_mesh::{
    Replay, context::Caller as User, error::MeshError, methods::Methods, terms::Terms, upstream::ResponseBody,
};
use weft_runtime::Scope;

pub(crate) use answer::seconds;
pub(crate) use caller::Caller;
pub(crate) use headers::strip_hop_by_hop;
pub(crate) use lane::{Bounds, Lane, Target, Way};
pub(crate) use metered::Metered;
pub use response::Body;

use crate::{
    access_log::AccessLog,
    config::Protocol,
    gate::{self, Gate},
    metrics::Metrics,
    openai,
    rate::{Client, Verdict as Rated},
    route::{View, decoded, normalised},
    table::Tables,
    translate::{self, Buffers, Complaint, Contracts, Dialect, Source, Streaming, Unary},
};
use passage::{Begun, Passage, Whence};
use request::{head, host, http_method, is_grpc, make_ready, redirect, span, terms, view};
use response::Forwarded;
use tunnel::Asked;
use unread::Unread;

/// What all forwarding threads share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
    pub(crate) methods: Arc<Methods>,
    /// What can be called in JSON.
    pub(crate) contracts: Contracts,
    /// Messages that are being translated.
    pub(crate) buffers: Buffers,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) scope: Scope,
}

/// Where there is no room for a call.
enum Full {
    /// In this time, but after it.
    TooEarly(Duration),
    /// In the gateway, or on the route.
    Gateway,
    /// For this caller.
    Caller,
}

/// What becomes of a request.
#[allow(clippy::large_enum_variant, reason = "it is there for a moment")]
enum Route {
    /// It goes this way.
    Way(Option<Way>),
    /// It is answered here, with that flag in the access log.
    Answered(&'static str, Response<Body>),
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
        if let Some(response) = answer::unfit(&request, is_grpc(request.headers())) {
            let log = self.inner.common.access_log.as_ref();
            let whence = log.map(|log| Whence::of(log, &request, caller.address, &Span::none()));
            return passage::refused(whence, "DPE", None, is_grpc(request.headers()), response);
        }
        match translate::dialect(&request) {
            Dialect::Native => self.route(request.map(Source::Client), caller).await,
            // Boxed, because it is large, and each call of gRPC has room for it otherwise.
            dialect => Box::pin(self.translate(request, dialect, caller)).await,
        }
    }

    /// The same for a client that says it in another way than gRPC, if that is what its route leads to.
    async fn translate(
        self,
        mut request: Request<Incoming>,
        dialect: Dialect,
        caller: Caller,
    ) -> Response<Body> {
        let common = self.inner.common.clone();
        let path = normalised(request.uri().path());
        let way = self.inner.tables.way(self.inner.thread, View { grpc: true, ..view(&request, &path) });
        let to_grpc = matches!(&way, Some(Way::Forward(lane)) if lane.target.protocol == Protocol::Grpc);
        let method = common.contracts.method(&path).filter(|_| to_grpc);
        let is_meant = match dialect {
            Dialect::Native => false,
            // Without a route it is told so in its own way.
            Dialect::Web(_) => to_grpc || way.is_none(),
            Dialect::Unary(_) | Dialect::Streaming(_) => method.is_some(),
        };
        drop(path);
        if !is_meant {
            return self.route(request.map(Source::Client), caller).await;
        }
        request.extensions_mut().insert(dialect);
        common.metrics.translated(dialect.label());
        match (dialect, method) {
            (Dialect::Web(web), _) => web.answer(self.route(web.ask(request), caller).await),
            (Dialect::Unary(codec), Some(method)) => {
                let asked = head(&request);
                match Unary::ask(request, codec, method, &common.buffers) {
                    Ok((call, request)) => call.answer(self.route(request, caller).await).await,
                    Err(response) => self.refused(&asked, way.as_ref(), &caller, *response),
                }
            }
            (Dialect::Streaming(codec), Some(method)) => {
                let asked = head(&request);
                match Streaming::ask(request, codec, method, &common.buffers) {
                    Ok((call, request)) => call.answer(self.route(request, caller).await),
                    Err(response) => self.refused(&asked, way.as_ref(), &caller, *response),
                }
            }
            (Dialect::Native | Dialect::Unary(_) | Dialect::Streaming(_), _) => {
                self.route(request.map(Source::Client), caller).await
            }
        }
    }

    /// The refusal of a request that cannot be said in gRPC, as the answer of the route that it leads to.
    fn refused(
        &self,
        request: &Request<()>,
        way: Option<&Way>,
        caller: &Caller,
        mut response: Response<Body>,
    ) -> Response<Body> {
        let log = self.inner.common.access_log.as_ref();
        let whence = log.map(|log| Whence::of(log, request, caller.address, &Span::none()));
        if let Some(Way::Forward(lane)) = way {
            lane.admit_page(request.headers().get(header::ORIGIN), response.headers_mut());
        }
        passage::refused(whence, "DPE", None, true, response)
    }

    /// Finds the way of a request, asks who makes it, and sends it.
    async fn route(self, request: Request<Source>, caller: Caller) -> Response<Body> {
        let way = self.decide(&request);
        let user = match &way {
            Route::Way(Some(Way::Forward(lane))) => identity::admit(lane, &request).await,
            _ => Ok(None),
        };
        self.follow((way, user), request, caller).await
    }

    fn decide(&self, request: &Request<Source>) -> Route {
        let (inner, path) = (&self.inner, normalised(request.uri().path()));
        let view = view(request, &path);
        if let Some(response) = self.preflight(view, request, request.headers().get(header::ORIGIN)) {
            return Route::Answered("-", response);
        }
        // What is behind this may read it in the other way.
        let other = decoded(request.uri().path());
        if other.is_some_and(|other| !inner.tables.agree(view, &other)) {
            return Route::Answered("DPE", answer::refuse(MeshError::Path, view.grpc));
        }
        Route::Way(inner.tables.way(inner.thread, view))
    }

    /// Sends a request on its way, on somebody's behalf, if there is room.
    async fn follow(
        self,
        (way, user): (Route, Result<Option<User>, MeshError>),
        request: Request<Source>,
        caller: Caller,
    ) -> Response<Body> {
        let grpc = is_grpc(request.headers());
        let inner = Arc::clone(&self.inner);
        let path = normalised(request.uri().path());
        let view = view(&request, &path);
        let common = &inner.common;
        let whence = |span: &Span| {
            common.access_log.as_ref().map(|log| Whence::of(log, &request, caller.address, span))
        };
        let origin = request.headers().get(header::ORIGIN).cloned();
        let lane = match way {
            Route::Way(Some(Way::Forward(lane))) => lane,
            Route::Way(other) => return self.answer_elsewhere(other, view, &request, &caller, whence),
            Route::Answered(flag, response) => {
                return passage::refused(whence(&Span::none()), flag, None, grpc, response);
            }
        };
        let address = caller::client(view.headers, &caller, &lane.bounds.trusted);
        let client = identity::client(&lane, address, &user);
        let rated = lane.limits.take(client, view.headers);
        let room = self.room(&lane, client, rated.map(|(_, verdict)| verdict));
        let admitted = self.enter(&lane, room, user);
        let mut response = match admitted {
            Err((flag, error)) => {
                let response = answer::refuse(error, grpc);
                passage::refused(whence(&Span::none()), flag, Some(&lane.rule), grpc, response)
            }
            Ok((inside, user)) => {
                let exported = weft_runtime::telemetry::traces_are_exported();
                let span = if exported { span(&request, grpc) } else { Span::none() };
                let method = if grpc { common.methods.get(view.path) } else { http_method(&request) };
                let begun = Begun { method, grpc, span: span.clone(), whence: whence(&span) };
                let passage = Passage::begin(common.metrics.clone(), &lane, inside, begun);
                self.pass(Arc::clone(&lane), request, passage, (caller, user)).instrument(span).await
            }
        };
        if let Some((limit, rated)) = rated {
            answer::tell_rate(response.headers_mut(), limit, rated);
        }
        if lane.servers.is_some() && !grpc {
            openai::dress(&mut response);
        }
        lane.admit_page(origin.as_ref(), response.headers_mut());
        response
    }

    /// The answer to a request that is not forwarded.
    fn answer_elsewhere(
        &self,
        way: Option<Way>,
        view: View<'_>,
        request: &Request<Source>,
        caller: &Caller,
        whence: impl Fn(&Span) -> Option<Box<Whence>>,
    ) -> Response<Body> {
        let whence = || whence(&Span::none());
        if let Some(Way::Redirect(rule, bounds)) = way {
            let scheme = caller::scheme(view.headers, caller, &bounds.trusted);
            let to = rule.redirection.as_ref();
            let response = to.map(|to| redirect(to, view, request.uri(), scheme));
            let response = response.unwrap_or_else(|| Response::new(Body::empty()));
            return passage::refused(whence(), "-", Some(&rule), view.grpc, response);
        }
        let common = &self.inner.common;
        let Some(response) = answer::no_route(request, view.grpc) else {
            return answer::health(&common.scope.ready);
        };
        common.metrics.unrouted();
        passage::refused(whence(), "NR", None, view.grpc, response)
    }

    /// A place for a call, or why it gets none: its flag and what it is told.
    fn enter(
        &self,
        lane: &Lane,
        room: Result<passage::Admitted, Full>,
        user: Result<Option<User>, MeshError>,
    ) -> Result<(passage::Admitted, Option<User>), (&'static str, MeshError)> {
        let metrics = &self.inner.common.metrics;
        match (room, user) {
            // Before it is said who may not: limits are for those who are guessing too.
            (Err(Full::TooEarly(retry_after)), _) => {
                metrics.rate_limited(&lane.rule);
                Err(("RL", MeshError::RateLimited { retry_after }))
            }
            (_, Err(error)) => {
                metrics.denied(&lane.rule);
                Err(("UAEX", error))
            }
            (Err(Full::Gateway), _) => {
                metrics.shed(&lane.rule);
                Err(("UO", MeshError::Overloaded))
            }
            (Err(Full::Caller), _) => {
                metrics.shed(&lane.rule);
                Err(("UO", MeshError::TooManyOfCaller))
            }
            (Ok(inside), Ok(user)) => Ok((inside, user)),
        }
    }

    /// The answer to a web page that asks whether it may send a request, on a route that says who may.
    fn preflight<B>(
        &self,
        view: View<'_>,
        request: &Request<B>,
        origin: Option<&HeaderValue>,
    ) -> Option<Response<Body>> {
        let origin = origin.filter(|_| request.method() == HttpMethod::OPTIONS)?;
        let method = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?;
        let way = |grpc| match self.inner.tables.way(self.inner.thread, View { grpc, method, ..view }) {
            Some(Way::Forward(lane)) => Some(lane),
            _ => None,
        };
        // It does not say whether it will be gRPC: where that leads to another route, both have to allow it.
        let lanes: Vec<_> = [way(true), way(false)].into_iter().flatten().collect();
        let rules = lanes.iter().map(|lane| lane.rule.cors.as_ref()).collect::<Option<Vec<_>>>()?;
        let cors = rules.iter().find(|cors| !cors.allows(origin)).or(rules.first())?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = cors.preflight(request.headers(), origin);
        Some(response)
    }

    /// A place among the calls in flight: of all, of the route and of the caller.
    fn room(&self, lane: &Lane, client: Client<'_>, rated: Option<Rated>) -> Result<passage::Admitted, Full> {
        if let Some(Rated::TooEarly(retry_after)) = rated {
            return Err(Full::TooEarly(retry_after));
        }
        let (bounds, rule) = (&lane.bounds, &lane.rule);
        let limit = gate::limit(bounds.max_in_flight, &bounds.overload, rule.priority);
        let all = self.inner.common.gate.enter(limit).ok_or(Full::Gateway)?;
        let route = lane.gate.enter(rule.max_in_flight.unwrap_or(usize::MAX)).ok_or(Full::Gateway)?;
        let own = match rule.max_in_flight_per_caller {
            None => None,
            Some(limit) => Some(lane.shares.enter(client, limit).ok_or(Full::Caller)?),
        };
        Ok((all, route, own))
    }

    async fn send(
        self,
        lane: Arc<Lane>,
        mut request: Request<Source>,
        mut passage: Passage,
        (caller, user): (Caller, Option<User>),
    ) -> Response<Body> {
        let (target, grpc, received) = (&lane.target, passage.grpc(), passage.received());
        let mut terms = match terms(&lane, &request, &passage) {
            Ok(terms) => terms,
            Err(error) => return passage.refuse(error),
        };
        passage.keyed(terms.key);
        let asked = match make_ready(&lane, &mut request, &caller, user.as_ref()) {
            Ok(asked) => asked,
            Err(error) => return passage.refuse(error),
        };
        let max = lane.rule.max_request_bytes.unwrap_or(lane.bounds.overload.max_request_bytes);
        let limit = if max == 0 { u64::MAX } else { max };
        let activity = terms.idle.clone();
        let complaint = request.extensions().get::<Complaint>().cloned();
        let request = request.map(|body| {
            let replay = if body.is_held() { Replay::held } else { Replay::new };
            replay(Metered::new(body, received.clone(), limit, activity))
        });
        match target.upstream.call(request, &terms, &mut passage.course).await {
            Ok(response) if asked.is_some() || response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.open(asked, response, passage, terms, caller)
            }
            Ok(response) => {
                // Only gRPC can say in the middle of a response that there is more to be had elsewhere.
                terms.stream_ends = target.stream_ends(Instant::now()).filter(|_| grpc);
                self.pass_on(response, passage, terms)
            }
            Err(_) if received.bytes() > limit => passage.refuse(MeshError::TooLarge { limit }),
            Err(error) => {
                tracing::debug!(error = %weft_mesh::error::chain(&error), "call failed");
                // What the client's own message was lacking says more than that it could not be sent.
                let own = complaint.and_then(|complaint| complaint.take());
                passage.refuse(own.unwrap_or(error))
            }
        }
    }

    /// A backend's answer where a WebSocket was asked for, or where one came unasked.
    fn open(
        &self,
        asked: Option<Asked>,
        response: Response<ResponseBody<Metered>>,
        passage: Passage,
        terms: Terms,
        caller: Caller,
    ) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match asked.filter(|asked| asked.is_granted(&response)) {
                Some(asked) => asked.open(response, passage, terms.idle, (caller, &self.inner.common.scope)),
                None => passage.betrayed(response, "it changed the protocol in a way that was not asked for"),
            };
        }
        // Over HTTP/2 any success would be the consent.
        if asked.is_some_and(|asked| asked.needs_other_than(response.status())) {
            return passage.betrayed(response, "it answered instead of changing the protocol");
        }
        self.pass_on(response, passage, terms)
    }

    fn pass_on(
        &self,
        mut response: Response<ResponseBody<Metered>>,
        passage: Passage,
        terms: Terms,
    ) -> Response<Body> {
        headers::strip_hop_by_hop(response.headers_mut());
        let response = Forwarded::begin(response, passage, terms);
        response.map(|body| Body::forwarded(self.inner.unread.watch(body)))
    }

    /// Ends calls whose time is over although their clients read nothing, for as long as this thread forwards.
    pub(crate) async fn sweep(&self) {
        self.inner.unread.sweep().await;
    }
}
