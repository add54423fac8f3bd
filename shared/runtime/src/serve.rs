//! Accepting connections and serving them, until they are old or told to drain.

mod ending;
mod lifetime;
mod linger;
mod version;

use std::{convert::Infallible, future::poll_fn, pin::Pin, slice, sync::Arc, task::Poll, time::Duration};

use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::TaskTracker;
use weft_mesh::BoxError;

use crate::{
    assembly::{Accept, Connection, Scope},
    call::Calls,
    config::Lifecycle,
    metrics::Metrics,
};
use ending::Ends;
use lifetime::{Lifetime, Step};
use linger::Lingering;
use version::Version;

/// How much of one response may wait in a connection for its client to read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long a client may take to send the headers of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How HTTP/2 begins, and how long a client may take to say it.
const PREFACE_BYTES: usize = 24;
const PREFACE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most connections that a listener's queue can hold, as Linux has it by default (`net.core.somaxconn`).
const QUEUE: usize = 4096;

/// Accepts connections until draining, never more at once than permitted; then those that the system has accepted
/// already, which would be reset with the listener. It runs on `scope.work`, so that draining waits for it.
pub(crate) async fn accept(
    (number, listener): (usize, TcpListener),
    acceptor: Arc<dyn Accept>,
    permits: Arc<Semaphore>,
    scope: Scope,
) {
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = scope.draining.cancelled() => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = scope.draining.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => acceptor.accept(Connection::new(stream, peer, permit, &scope).by(number)),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    for _ in 0..QUEUE {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { return };
        let queued = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
            Poll::Pending => Poll::Ready(None),
        });
        let Some((stream, peer)) = queued.await else { return };
        acceptor.accept(Connection::new(stream, peer, permit, &scope).by(number));
    }
}

/// Serves connections with a router's calls.
pub(crate) struct Served {
    pub(crate) calls: Calls,
    pub(crate) scope: Scope,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

impl Served {
    pub(crate) fn new(calls: Calls, scope: &Scope, lifecycle: &Lifecycle, metrics: Metrics) -> Self {
        Self { calls, scope: scope.clone(), lifecycle: lifecycle.clone(), metrics }
    }
}

/// Runs hyper's own tasks where shutdown waits for them.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl Accept for Served {
    fn accept(&self, connection: Connection) {
        let (calls, scope, metrics) = (self.calls.clone(), self.scope.clone(), self.metrics.clone());
        let lifecycle = self.lifecycle.clone();
        self.scope.work.spawn(async move {
            metrics.connections.add(1, slice::from_ref(&metrics.service));
            let handler = move |request| calls.clone().handle(request);
            serve_connection(connection, handler, &scope, &lifecycle).await;
            metrics.connections.add(-1, slice::from_ref(&metrics.service));
        });
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2, until it ends, its age or draining has finished it, or everything stops.
/// Calls whose time is over before they end get UNAVAILABLE in their trailers.
pub async fn serve_connection<H, F, B>(
    connection: Connection,
    handler: H,
    scope: &Scope,
    lifecycle: &Lifecycle,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Connection { stream, peer, listener: _, tls, tunnels, place: _place, handover: _handover } =
        connection;
    let Some((stream, version)) = version::agree(stream, tls, peer, scope).await else { return };
    let (ends, names) = (Ends::default(), stream.client_names());
    let service = service_fn({
        let ends = ends.clone();
        move |mut request: Request<Incoming>| {
            let (ends, handler) = (ends.clone(), handler.clone());
            if let Some(names) = names.clone() {
                request.extensions_mut().insert(names);
            }
            // Boxed, so that hyper's task for the stream does not keep its room until the last byte of the response.
            Box::pin(async move { Ok::<_, Infallible>(ends.answer(request, handler).await) })
        }
    });
    let lifetime = Lifetime::new(lifecycle, std::time::Instant::now(), fastrand::f64());
    let stream = Lingering::new(stream, scope);
    let result = match version {
        Version::Http1 => {
            let serving = http1(lifecycle).serve_connection(TokioIo::new(stream), service).with_upgrades();
            drive(serving, lifetime, &ends, scope).await
        }
        Version::Http2 => {
            let mut builder = http2(scope, lifecycle);
            if tunnels {
                builder.enable_connect_protocol();
            }
            let stream = stream.expecting(PREFACE_BYTES, PREFACE_TIMEOUT);
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            drive(serving, lifetime, &ends, scope).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, error = %weft_mesh::error::chain(&error), "connection ended");
    }
}

fn http1(lifecycle: &Lifecycle) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(256)
        // hyper takes no less.
        .max_buf_size(lifecycle.max_header_bytes.max(8 * 1024));
    builder
}

fn http2(scope: &Scope, lifecycle: &Lifecycle) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks(scope.work.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(lifecycle.max_concurrent_streams)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(lifecycle.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Drives a connection through its life.
async fn drive<C>(serving: C, mut lifetime: Lifetime, ends: &Ends, scope: &Scope) -> hyper::Result<()>
where
    C: Serving,
{
    tokio::pin!(serving);
    let (mut draining, mut ending) = (false, false);
    loop {
        let due = lifetime.next();
        let alarm = async {
            match due {
                Some(due) => sleep_until(Instant::from_std(due)).await,
                None => std::future::pending().await,
            }
        };
        // The connection first: what a client has sent is taken in before it is told to send no more.
        let step = tokio::select! {
            biased;
            () = scope.stopping.cancelled() => return Ok(()),
            result = &mut serving => return result,
            () = scope.ending.cancelled(), if !ending => {
                ending = true;
                lifetime.end(std::time::Instant::now())
            }
            () = scope.draining.cancelled(), if !draining => {
                draining = true;
                let Some(step) = lifetime.drain() else { continue };
                step
            }
            () = alarm => lifetime.due(std::time::Instant::now()),
        };
        match step {
            Step::Retire => {
                ends.retire();
                serving.as_mut().retire();
            }
            Step::Close => serving.as_mut().close(),
            Step::End => {
                ends.end();
                serving.as_mut().close();
            }
            Step::Drop => return Ok(()),
        }
    }
}

/// A connection that can be asked to end.
trait Serving: Future<Output = hyper::Result<()>> {
    /// Takes what comes on it as its last.
    fn retire(self: Pin<&mut Self>);
    /// Takes nothing new on it. HTTP/2 gets GOAWAY(2³¹−1), and GOAWAY with the real last id a round trip later
    /// (RFC 9113 §6.8): calls on their way are taken. An idle HTTP/1.1 connection is closed.
    fn close(self: Pin<&mut Self>);
}

impl<S, B> Serving for http1::UpgradeableConnection<TokioIo<Lingering>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
    Self: Future<Output = hyper::Result<()>>,
{
    /// Nothing: a client that is just sending on an idle connection would meet a closed one. It is told by the
    /// `Connection: close` of its next response.
    fn retire(self: Pin<&mut Self>) {}

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Serving for http2::Connection<TokioIo<Lingering>, S, Tasks>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
    Tasks: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
    Self: Future<Output = hyper::Result<()>>,
{
    fn retire(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
