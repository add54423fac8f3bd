//! The transport of typed clients: balanced, with a deadline, identity and trace context on every call.
//!
//! tonic's own balanced channel picks at random and knows no health; this one asks `weft-balance`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Sleep, sleep_until};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body};
use tracing::{Instrument, Span, field::Empty};
use weft_balance::{
    Class,
    retry::{Deadline, Limits},
};

use crate::{
    Peer, Replay,
    context::{self, Caller, Role, TIMEOUT_HEADER, USER_HEADER},
    discovery::{self, Sources, Target},
    error::{MeshError, status},
    identity::{IDENTITY_HEADER, Signer},
    methods::{Method, Methods},
    pool::{Pool, Protocol, Settings},
    probe::{self, Check},
    terms::{Course, Terms},
    timeout, trace,
    upstream::{ResponseBody, Upstream},
};

/// After how much silence a connection with calls in flight is tried.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A balanced channel to the replicas of one service. Clones share connections.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
    /// Signs for the caller, and for which service.
    signing: Option<(Arc<Signer>, Arc<str>)>,
}

struct Inner {
    peer: Peer,
    upstream: Upstream<Body>,
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
        let settings = Settings {
            interval: peer.health_interval,
            timeout: peer.health_interval.min(Duration::from_secs(5)),
            // Weft's own servers allow it.
            ping_interval: Some(PING_INTERVAL),
            ..Settings::new(name, Protocol::Grpc, check)
        };
        let pool = Pool::new(settings, Methods::weft());
        let targets =
            peer.addresses.iter().map(|address| Target { address: address.clone(), weight: 1, tier: 0 });
        let sources = Sources {
            targets: targets.collect(),
            file: None,
            refresh: peer.refresh,
            nameservers: Vec::new(),
        };
        discovery::start(&pool, sources, tasks, stopping.clone());
        probe::start(&pool, tasks, stopping);
        let upstream = Upstream::new(pool, tasks.clone());
        Self { inner: Arc::new(Inner { peer: peer.clone(), upstream, _own: own }), signing: None }
    }

    /// Calls as a service, for whoever is current, and signs so for the service that it leads to. Without a signer calls
    /// only name the user.
    #[must_use]
    pub fn signed_by(self, signer: Option<Arc<Signer>>, audience: &str) -> Self {
        Self { signing: signer.map(|signer| (signer, audience.into())), ..self }
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
        let (inner, signing) = (Arc::clone(&self.inner), self.signing.clone());
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
        let call = async move { inner.call(request, &path, signing.as_ref()).await.map_err(status) };
        Box::pin(call.instrument(span))
    }
}

impl Inner {
    async fn call(
        &self,
        mut request: Request<Body>,
        path: &str,
        signing: Option<&(Arc<Signer>, Arc<str>)>,
    ) -> Result<Response<Body>, MeshError> {
        let method = Methods::weft().get(path);
        identify(request.headers_mut(), signing)?;
        let deadline = self.prepare(&mut request, method);
        let terms = Terms {
            deadline,
            idempotent: method.idempotent,
            peek: method.idempotent && !method.streaming,
            grpc: true,
            key: None,
            class: Class::Interactive,
            idle: None,
            stream_ends: None,
            method,
            trace_attempts: false,
        };
        let sent = self.upstream.call(request.map(Replay::new), &terms, &mut Course::default()).await;
        sent.map(|response| self.finish(response, deadline.at()))
    }

    /// Adds the trace context, and says until when the call may take.
    fn prepare(&self, request: &mut Request<Body>, method: Method) -> Deadline {
        let limit = if method.streaming { self.peer.stream_timeout } else { self.peer.timeout };
        let asked = request.headers().get(TIMEOUT_HEADER).and_then(|value| value.to_str().ok());
        let limit = asked.and_then(timeout::parse).unwrap_or(limit);
        let context = context::current();
        trace::inject(request.headers_mut());
        let now = Instant::now();
        // A caller's own call must not outlive the one it serves.
        let max = context.deadline.map(|deadline| deadline.saturating_duration_since(now));
        Deadline::new(Some(limit), Limits { default: None, max }, now)
    }

    fn finish(&self, response: Response<ResponseBody<Body>>, deadline: Option<Instant>) -> Response<Body> {
        Span::current().record("server.address", response.body().inner().backend());
        let pool = Arc::clone(self.upstream.pool());
        response.map(|body| {
            let alarm = deadline.map(|deadline| Box::pin(sleep_until(deadline.into())));
            Body::new(Limited { body, alarm, pool })
        })
    }
}

/// Says on whose behalf a call is made.
fn identify(headers: &mut HeaderMap, signing: Option<&(Arc<Signer>, Arc<str>)>) -> Result<(), MeshError> {
    let user = context::user();
    if let Some((signer, audience)) = signing {
        let caller = Caller { user, role: Role::Service };
        headers.insert(IDENTITY_HEADER, signer.sign(&caller, audience)?);
    } else if !user.is_empty()
        && let Ok(user) = HeaderValue::try_from(user)
    {
        headers.entry(USER_HEADER).or_insert(user);
    }
    Ok(())
}

/// A response body that ends with DEADLINE_EXCEEDED when its time is over.
struct Limited {
    body: ResponseBody<Body>,
    alarm: Option<Pin<Box<Sleep>>>,
    pool: Arc<Pool>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|source| {
                    let backend = self.body.inner().backend().to_owned();
                    status(MeshError::Backend { pool: self.pool.name().to_owned(), backend, source })
                })
            }));
        }
        if self.alarm.as_mut().is_some_and(|alarm| alarm.as_mut().poll(cx).is_ready()) {
            let pool = self.pool.name().to_owned();
            return Poll::Ready(Some(Err(status(MeshError::DeadlineExceeded { pool }))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
