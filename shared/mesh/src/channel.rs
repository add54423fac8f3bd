//! The transport of typed clients: balanced, with a deadline, identity and trace context on every call.
//!
//! tonic's own balanced channel picks at random and knows no health; this one asks `weft-balance`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::time::{Sleep, sleep_until, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body};
use tracing::{Instrument, Span, field::Empty};
use weft_balance::Thresholds;

use crate::{
    Peer, Replay,
    context::{self, TIMEOUT_HEADER, USER_HEADER},
    discovery::{self, Target},
    error::{MeshError, status},
    pool::{Pool, Protocol, ResponseBody, Settings, Upstream},
    probe::{self, Check},
    retry::{Budget, Method, Methods, backoff},
    timeout, trace,
};

/// How often an idempotent call may be sent in all.
const ATTEMPTS: u32 = 3;

/// A balanced channel to the replicas of one service. Clones share connections.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    peer: Peer,
    upstream: Upstream<Body>,
    budget: Budget,
    /// Ends what was started for this channel alone; `None` when an owner's token does.
    _own: Option<tokio_util::sync::DropGuard>,
}

impl Channel {
    /// A channel to a service. Discovery, probes and connections run on `tasks` until `stopping`.
    #[must_use]
    pub fn new(name: &str, peer: &Peer, tasks: &TaskTracker, stopping: CancellationToken) -> Self {
        Self::build(name, peer, Check::Grpc { service: String::new() }, tasks, stopping, None)
    }

    /// A channel to one address without health checks, for tests and one-off clients. What it started ends with its
    /// last clone.
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // an address is cheap, and calls read better
    pub fn direct(address: impl ToString) -> Self {
        let stopping = CancellationToken::new();
        let guard = stopping.clone().drop_guard();
        let peer = Peer::at([address.to_string()]);
        Self::build("direct", &peer, Check::None, &TaskTracker::new(), stopping, Some(guard))
    }

    fn build(
        name: &str,
        peer: &Peer,
        check: Check,
        tasks: &TaskTracker,
        stopping: CancellationToken,
        own: Option<tokio_util::sync::DropGuard>,
    ) -> Self {
        let pool = Pool::new(Settings {
            name: name.to_owned(),
            protocol: Protocol::Grpc,
            check,
            interval: peer.health_interval,
            timeout: peer.health_interval.min(std::time::Duration::from_secs(5)),
            thresholds: Thresholds::default(),
        });
        let targets = peer.addresses.iter().map(|address| Target { address: address.clone(), weight: 1 });
        discovery::start(&pool, targets.collect(), peer.refresh, tasks, stopping.clone());
        probe::start(&pool, tasks, stopping);
        let upstream = Upstream::new(pool, tasks.clone());
        Self { inner: Arc::new(Inner { peer: peer.clone(), upstream, budget: Budget::default(), _own: own }) }
    }

    /// The pool behind the channel.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        self.inner.upstream.pool()
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        let path = request.uri().path().to_owned();
        let method = path.trim_start_matches('/');
        let span = tracing::info_span!(
            "call",
            otel.name = method,
            otel.kind = "client",
            rpc.system.name = "grpc",
            rpc.method = method,
            server.address = Empty
        );
        Box::pin(async move { inner.call(request, &path).await.map_err(status) }.instrument(span))
    }
}

impl Inner {
    async fn call(&self, mut request: Request<Body>, path: &str) -> Result<Response<Body>, MeshError> {
        let method = Methods::weft().get(path);
        let deadline = self.prepare(&mut request, method);
        self.budget.deposit();
        let (parts, body) = request.into_parts();
        let (mut body, mut attempt) = (Replay::new(body), 1);
        let keeper = body.keeper();
        let mut before: Option<Outcome> = None;
        loop {
            let mut request = Request::from_parts(parts.clone(), body);
            set_timeout(&mut request, deadline);
            if attempt > 1 {
                request.headers_mut().insert("grpc-previous-rpc-attempts", HeaderValue::from(attempt - 1));
            }
            let late = || MeshError::DeadlineExceeded { pool: self.upstream.pool().name().to_owned() };
            let attempted = timeout_at(deadline.into(), self.attempt(request, method)).await;
            let mut outcome = attempted.unwrap_or_else(|_| Outcome(Err(late())));
            // That a repetition had too little time says less than what the attempt before it met with.
            if outcome.is_late()
                && let Some(before) = before.take()
            {
                outcome = before;
            }
            let more =
                method.idempotent && attempt < ATTEMPTS && Instant::now() < deadline && outcome.may_help();
            let next = more.then(|| keeper.again()).flatten();
            let wait = backoff(attempt);
            match next {
                Some(next) if Instant::now() + wait < deadline && self.budget.withdraw() => {
                    tokio::time::sleep(wait).await;
                    (body, attempt, before) = (next, attempt + 1, Some(outcome));
                }
                _ => {
                    keeper.commit();
                    return outcome.0.map(|(response, first)| self.finish(response, first, deadline));
                }
            }
        }
    }

    /// Sends the call once. Of a unary call that may be repeated it also waits for the first frame: a server that fails
    /// after its headers says so only there.
    async fn attempt(&self, request: Request<Replay<Body>>, method: Method) -> Outcome {
        let mut response = match self.upstream.call(request).await {
            Ok(response) => response,
            Err(error) => return Outcome(Err(error)),
        };
        if !method.idempotent || method.streaming || response.body().is_end_stream() {
            return Outcome(Ok((response, None)));
        }
        match response.body_mut().frame().await {
            Some(Ok(frame)) => Outcome(Ok((response, Some(frame)))),
            None => Outcome(Ok((response, None))),
            Some(Err(source)) => {
                let pool = self.upstream.pool().name().to_owned();
                let backend = response.body().backend().unwrap_or("its backend").to_owned();
                Outcome(Err(MeshError::Backend { pool, backend, source: source.into() }))
            }
        }
    }

    /// Adds identity and trace context, and says until when the call may take.
    fn prepare(&self, request: &mut Request<Body>, method: Method) -> Instant {
        let limit = if method.streaming { self.peer.stream_timeout } else { self.peer.timeout };
        let asked = request.headers().get(TIMEOUT_HEADER).and_then(|value| value.to_str().ok());
        let limit = asked.and_then(timeout::parse).unwrap_or(limit);
        let context = context::current();
        if let Ok(user) = HeaderValue::try_from(context.caller.user) {
            request.headers_mut().entry(USER_HEADER).or_insert(user);
        }
        trace::inject(request.headers_mut());
        let deadline = Instant::now() + limit;
        context.deadline.map_or(deadline, |callers| callers.min(deadline))
    }

    fn finish(
        &self,
        response: Response<ResponseBody<Body>>,
        first: Option<Frame<Bytes>>,
        deadline: Instant,
    ) -> Response<Body> {
        if let Some(backend) = response.body().backend() {
            Span::current().record("server.address", backend);
        }
        let pool = Arc::clone(self.upstream.pool());
        response.map(|body| {
            let alarm = Box::pin(sleep_until(deadline.into()));
            Body::new(Limited { first, body, alarm, pool })
        })
    }
}

fn set_timeout(request: &mut Request<Replay<Body>>, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    if let Ok(value) = HeaderValue::try_from(timeout::encode(left)) {
        request.headers_mut().insert(TIMEOUT_HEADER, value);
    }
}

/// How an attempt ended: a response, with its first frame where that was waited for, or none.
struct Outcome(Result<Began, MeshError>);

/// A response that has begun.
type Began = (Response<ResponseBody<Body>>, Option<Frame<Bytes>>);

impl Outcome {
    /// Whether it ended because its time was over, here or at the server.
    fn is_late(&self) -> bool {
        match &self.0 {
            Ok((response, _)) => response.headers().get("grpc-status").is_some_and(|code| code == "4"),
            Err(error) => matches!(error, MeshError::DeadlineExceeded { .. }),
        }
    }

    /// Whether another replica, or a moment later, may do better: the transport broke, or the server answered
    /// UNAVAILABLE and nothing else.
    fn may_help(&self) -> bool {
        let unavailable = |headers: &HeaderMap| headers.get("grpc-status").is_some_and(|code| code == "14");
        match &self.0 {
            Ok((response, first)) => {
                let trailers = first.as_ref().and_then(Frame::trailers_ref);
                unavailable(response.headers()) || trailers.is_some_and(unavailable)
            }
            Err(error) => matches!(error, MeshError::Backend { .. } | MeshError::NoHealthyBackends { .. }),
        }
    }
}

/// A response body that ends with DEADLINE_EXCEEDED when its time is over.
struct Limited {
    first: Option<Frame<Bytes>>,
    body: ResponseBody<Body>,
    alarm: Pin<Box<Sleep>>,
    pool: Arc<Pool>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|source| {
                    let backend = self.body.backend().unwrap_or_default().to_owned();
                    status(MeshError::Backend {
                        pool: self.pool.name().to_owned(),
                        backend,
                        source: source.into(),
                    })
                })
            }));
        }
        if self.alarm.as_mut().poll(cx).is_ready() {
            let pool = self.pool.name().to_owned();
            return Poll::Ready(Some(Err(status(MeshError::DeadlineExceeded { pool }))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }
}
