//! A named set of interchangeable backends, and calls to it that go to the next one when they were certainly not
//! executed.
//!
//! A [`Pool`] is shared by the whole process: backends, health, counters. An [`Upstream`] is one owner's connections
//! to it: each worker thread of the gateway has its own, so that no connection is locked by two threads.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;
use weft_balance::{Backend, Backends, InFlight, Outcome, Thresholds};

use crate::{
    BoxError, Replay, Tracked,
    error::{MeshError, chain},
    link::{Link, LinkBody, LinkError},
    probe::Check,
};

/// How often a connection that closed under a call is replaced before the call gives up.
const CLOSED_LIMIT: usize = 3;

/// What a pool's backends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// Everything about a pool but its backends.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For people, metrics and errors.
    pub name: String,
    /// What the backends speak.
    pub protocol: Protocol,
    /// What a health check does.
    pub check: Check,
    /// How often a healthy backend is checked.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// How many results in a row change a backend's health.
    pub thresholds: Thresholds,
}

/// The backends of a pool and what is known of them, shared by all threads.
#[derive(Debug)]
pub struct Pool {
    /// As configured.
    pub settings: Settings,
    /// Who is there, and how loaded.
    pub backends: Backends,
    /// Wakes the probes: the list changed, or a backend was marked down.
    pub(crate) disturbed: Notify,
    /// False until every configured name has been resolved once.
    pub(crate) resolved: watch::Sender<bool>,
}

impl Pool {
    /// A pool without backends yet.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let backends = Backends::new(settings.thresholds);
        Arc::new(Self { settings, backends, disturbed: Notify::new(), resolved: watch::Sender::new(false) })
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Tells the probes that the list of backends changed.
    pub fn changed(&self) {
        self.disturbed.notify_waiters();
    }

    /// A connection to a backend ended: it may be gone, so it is checked now instead of at the next interval.
    pub(crate) fn suspect(&self, address: &str) {
        if let Some(backend) = self.backends.get(address) {
            backend.suspect();
            self.disturbed.notify_waiters();
        }
    }

    fn mark_down(&self, backend: &Backend, reason: &str) {
        if backend.mark_down(reason, Instant::now()).is_some() {
            tracing::warn!(pool = self.name(), backend = backend.address(), reason, "backend is down");
            self.disturbed.notify_waiters();
        }
    }

    async fn pick(&self, tried: &[Arc<Backend>]) -> Result<InFlight, MeshError> {
        if let Some(call) = self.backends.pick(tried) {
            return Ok(call);
        }
        if !*self.resolved.borrow() {
            // The caller's deadline bounds this wait, and discovery ends it either way.
            let _ = self.resolved.subscribe().wait_for(|resolved| *resolved).await;
        }
        let none = || MeshError::NoHealthyBackends { pool: self.name().to_owned() };
        self.backends.pick(tried).ok_or_else(none)
    }
}

/// One owner's connections to a pool.
pub struct Upstream<B> {
    pool: Arc<Pool>,
    tasks: TaskTracker,
    links: Mutex<HashMap<String, Arc<Link<B>>>>,
}

/// The body of a response from a pool.
pub type ResponseBody<B> = Tracked<Returning<B>>;

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Connections are made when calls need them, and run on `tasks`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        Self { pool, tasks, links: Mutex::new(HashMap::new()) }
    }

    /// The pool called.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Sends a call to the least loaded healthy backend, and to the next one as long as it was certainly not executed:
    /// no connection, a refused stream, a connection closed before the call was sent. Waits for the response headers;
    /// the deadline is the caller's to keep, and so is the decision that there will be no further attempt
    /// ([`Keeper::commit`](crate::Keeper::commit)). Dropping the future, or the body, cancels the call at the backend.
    ///
    /// # Errors
    /// `NO_HEALTHY_BACKENDS`, or the failure of a call that may have been executed.
    pub async fn call(&self, request: Request<Replay<B>>) -> Result<Response<ResponseBody<B>>, MeshError> {
        let (parts, body) = request.into_parts();
        let mut tried: Vec<Arc<Backend>> = Vec::new();
        let mut closed = 0;
        let mut attempt = Some(body);
        loop {
            let call = self.pool.pick(&tried).await?;
            let backend = Arc::clone(call.backend());
            let broken = |source| MeshError::Backend {
                pool: self.pool.name().to_owned(),
                backend: backend.address().to_owned(),
                source,
            };
            let Some(body) = attempt.take() else {
                return Err(broken("the request was too large to be sent again".into()));
            };
            let keeper = body.keeper();
            let mut request = Request::from_parts(parts.clone(), body);
            address(&mut request, backend.address(), self.pool.settings.protocol);
            let link = self.link(&backend);
            let error = match link.send(request).await {
                Ok(response) => return Ok(tracked(response, call, link)),
                Err(error) => error,
            };
            attempt = keeper.again();
            match error {
                LinkError::Connect(source) | LinkError::Refused(source) => {
                    call.record(Outcome::Failure);
                    self.pool.mark_down(&backend, &chain(&*source));
                    tried.push(backend);
                }
                LinkError::Closed(_) if closed < CLOSED_LIMIT => closed += 1,
                LinkError::Closed(source) | LinkError::Broken(source) => {
                    call.record(Outcome::Failure);
                    return Err(broken(source));
                }
            }
        }
    }

    fn link(&self, backend: &Arc<Backend>) -> Arc<Link<B>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(backend.address()) {
            return Arc::clone(link);
        }
        // A new address is the moment to forget those that are gone; their connections close with their last call.
        let list = self.pool.backends.list();
        links.retain(|address, _| list.iter().any(|backend| backend.address() == address));
        let link = Arc::new(Link::new(backend.address(), Arc::clone(&self.pool), self.tasks.clone()));
        links.insert(backend.address().to_owned(), Arc::clone(&link));
        link
    }
}

/// Points a request at a backend. The authority the client asked for stays; without one it is the backend's.
fn address<B>(request: &mut Request<B>, backend: &str, protocol: Protocol) {
    let path = request.uri().path_and_query().cloned();
    match protocol {
        Protocol::Grpc => {
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = request.uri().authority().cloned().or_else(|| backend.parse().ok());
            uri.path_and_query = path;
            if let Ok(uri) = Uri::from_parts(uri) {
                *request.uri_mut() = uri;
            }
            *request.version_mut() = http::Version::HTTP_2;
        }
        Protocol::Http => {
            if !request.headers().contains_key(header::HOST) {
                let host = request.uri().authority().map_or(backend, http::uri::Authority::as_str);
                if let Ok(host) = HeaderValue::try_from(host) {
                    request.headers_mut().insert(header::HOST, host);
                }
            }
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
            *request.version_mut() = http::Version::HTTP_11;
        }
    }
}

fn tracked<B>(
    response: Response<LinkBody<B>>,
    call: InFlight,
    link: Arc<Link<B>>,
) -> Response<ResponseBody<B>>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let returning = Returning { incoming: body.incoming, lent: body.lent.map(|sender| (sender, link)) };
    let body = Tracked::new(returning, call, parts.status, &parts.headers);
    Response::from_parts(parts, body)
}

/// An HTTP/1.1 connection and where it belongs.
type Lent<B> = (http1::SendRequest<Replay<B>>, Arc<Link<B>>);

/// A response body that gives an HTTP/1.1 connection back when it has been read to the end.
pub struct Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    incoming: Incoming,
    lent: Option<Lent<B>>,
}

impl<B> Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn finish(&mut self) {
        if let Some((sender, link)) = self.lent.take() {
            link.give_back(sender);
        }
    }
}

impl<B> Drop for Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn drop(&mut self) {
        // A body that was empty, or read exactly, is never polled to its end.
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}

impl<B> Body for Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.finish();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
