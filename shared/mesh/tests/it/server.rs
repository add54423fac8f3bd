//! Backends with a health service, which count what they are asked.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};
use tower::{Service, util::BoxCloneSyncService};

type Grpc = BoxCloneSyncService<Request<Incoming>, Response<tonic::body::Body>, Infallible>;

/// What a backend was asked.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicUsize,
    pub(crate) watches: AtomicUsize,
    pub(crate) checks: AtomicUsize,
    authority: Mutex<String>,
}

/// A backend that answers health checks over gRPC (`Watch` and `Check`) and HTTP/1.1.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    pub(crate) status: Arc<AtomicU16>,
    watched: Arc<AtomicBool>,
    reporter: HealthReporter,
    grpc: Grpc,
    running: Mutex<(TaskTracker, CancellationToken)>,
}

#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let (reporter, health) = health_reporter();
        let backend = Self {
            address: SocketAddr::from(([127, 0, 0, 1], weft_testkit::free_port().unwrap())),
            counts: Arc::default(),
            status: Arc::new(200.into()),
            watched: Arc::new(true.into()),
            reporter,
            grpc: BoxCloneSyncService::new(health),
            running: Mutex::default(),
        };
        backend.serve().await;
        backend
    }

    /// As a server that knows `Check` only.
    pub(crate) async fn without_watch() -> Self {
        let backend = Self::start().await;
        backend.watched.store(false, Ordering::Relaxed);
        backend
    }

    /// Listens, also again after [`kill`](Self::kill).
    pub(crate) async fn serve(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let (counts, grpc, watched) =
            (Arc::clone(&self.counts), self.grpc.clone(), Arc::clone(&self.watched));
        let (status, connections, stop) = (Arc::clone(&self.status), tasks.clone(), end.clone());
        tasks.spawn(end.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counts.connections.fetch_add(1, Ordering::Relaxed);
                let (counts, grpc) = (Arc::clone(&counts), grpc.clone());
                let (watched, status) = (Arc::clone(&watched), Arc::clone(&status));
                let service = service_fn(move |request| {
                    answer(
                        request,
                        Arc::clone(&counts),
                        grpc.clone(),
                        Arc::clone(&watched),
                        Arc::clone(&status),
                    )
                });
                let builder = auto::Builder::new(Tasks(connections.clone()));
                let stop = stop.clone();
                connections.spawn(async move {
                    let serving = builder.serve_connection(TokioIo::new(stream), service);
                    stop.run_until_cancelled_owned(serving).await.map(Result::ok)
                });
            }
        }));
        *self.running.lock().unwrap() = (tasks, end);
    }

    /// Ends it like kill -9: every socket closes at once.
    pub(crate) async fn kill(&self) {
        let (tasks, end) = std::mem::take(&mut *self.running.lock().unwrap());
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }

    pub(crate) async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
    }

    /// What the last request was addressed to.
    pub(crate) fn authority(&self) -> String {
        self.counts.authority.lock().unwrap().clone()
    }
}

impl Counts {
    pub(crate) fn of(&self, counter: impl Fn(&Self) -> &AtomicUsize) -> usize {
        counter(self).load(Ordering::Relaxed)
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: Arc<Counts>,
    mut grpc: Grpc,
    watched: Arc<AtomicBool>,
    status: Arc<AtomicU16>,
) -> Result<Response<tonic::body::Body>, Infallible> {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str).or(host);
    *counts.authority.lock().unwrap() = authority.unwrap_or_default().to_owned();
    let path = request.uri().path().to_owned();
    match path.rsplit('/').next().unwrap() {
        "Watch" => counts.watches.fetch_add(1, Ordering::Relaxed),
        _ => counts.checks.fetch_add(1, Ordering::Relaxed),
    };
    if path == "/health" {
        let body =
            tonic::body::Body::new(Full::new(Bytes::from_static(b"{\"status\":\"as the code says\"}")));
        return Ok(Response::builder().status(status.load(Ordering::Relaxed)).body(body).unwrap());
    }
    if path.ends_with("Watch") && !watched.load(Ordering::Relaxed) {
        let mut response = Response::new(tonic::body::Body::empty());
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        return Ok(response);
    }
    grpc.call(request).await
}
