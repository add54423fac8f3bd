//! Accepting connections and serving them, until told to drain.

use std::{convert::Infallible, slice, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tokio_util::task::TaskTracker;

use crate::{
    assembly::{Accept, Connection, Scope},
    call::Calls,
    config::Lifecycle,
    metrics::Metrics,
};

/// How long a client may take to send the headers of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until draining, never more at once than permitted.
pub(crate) async fn accept(
    listener: TcpListener,
    acceptor: Arc<dyn Accept>,
    permits: Arc<Semaphore>,
    scope: Scope,
) {
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = scope.draining.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = scope.draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it small frames wait for acknowledgements.
                let _ = stream.set_nodelay(true);
                acceptor.accept(Connection { stream, peer, permit });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves connections with a router's calls.
pub(crate) struct Served {
    pub(crate) calls: Calls,
    pub(crate) scope: Scope,
    pub(crate) max_concurrent_streams: u32,
    pub(crate) metrics: Metrics,
}

impl Served {
    pub(crate) fn new(calls: Calls, scope: &Scope, lifecycle: &Lifecycle, metrics: Metrics) -> Self {
        Self {
            calls,
            scope: scope.clone(),
            max_concurrent_streams: lifecycle.max_concurrent_streams,
            metrics,
        }
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
        let streams = self.max_concurrent_streams;
        self.scope.work.spawn(async move {
            metrics.connections.add(1, slice::from_ref(&metrics.service));
            let handler = move |request| calls.clone().handle(request);
            serve_connection(connection, handler, &scope, streams).await;
            metrics.connections.add(-1, slice::from_ref(&metrics.service));
        });
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2, until it ends, draining has finished it, or everything stops.
pub async fn serve_connection<H, F, B>(
    connection: Connection,
    handler: H,
    scope: &Scope,
    max_concurrent_streams: u32,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let mut builder = auto::Builder::new(Tasks(scope.work.clone()));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(256);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_concurrent_streams)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(connection.stream), service);
    tokio::pin!(serving);
    let mut draining = false;
    loop {
        tokio::select! {
            result = &mut serving => {
                if let Err(error) = result {
                    tracing::debug!(peer = %connection.peer, error = %weft_mesh::error::chain(&*error), "connection ended");
                }
                return;
            }
            () = scope.draining.cancelled(), if !draining => {
                draining = true;
                serving.as_mut().graceful_shutdown();
            }
            () = scope.stopping.cancelled() => return,
        }
    }
}
