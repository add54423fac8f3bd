//! Backends that do what the path says.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use sha1::{Digest, Sha1};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use weft_mesh::{poll_full_frame, tls::ServerTls};
use weft_runtime::{Connection, Scope, config::Lifecycle, serve_connection};

type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

/// A backend that can be killed.
#[derive(Clone)]
pub(crate) struct TestBackend {
    pub(crate) address: SocketAddr,
    pub(crate) calls: Arc<AtomicU64>,
    pub(crate) cancelled: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    scope: Scope,
    healthy: Arc<std::sync::atomic::AtomicBool>,
    tls: Option<Arc<ServerTls>>,
}

impl TestBackend {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// One that is connected to over TLS.
    pub(crate) async fn start_secured(tls: weft_mesh::tls::Server) -> Self {
        Self::start_with("127.0.0.1:0", Some(Arc::new(ServerTls::new(tls)))).await
    }

    pub(crate) async fn start_at(address: impl tokio::net::ToSocketAddrs) -> Self {
        Self::start_with(address, None).await
    }

    async fn start_with(address: impl tokio::net::ToSocketAddrs, tls: Option<Arc<ServerTls>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            calls: Arc::default(),
            cancelled: Arc::default(),
            connections: Arc::default(),
            scope: Scope::default(),
            healthy: Arc::new(true.into()),
            tls,
        };
        backend.scope.tasks.spawn(backend.clone().accept(listener));
        backend
    }

    async fn accept(self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(1000));
        loop {
            let (stream, peer) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = self.scope.stopping.cancelled() => return,
            };
            self.connections.fetch_add(1, Ordering::Relaxed);
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let backend = self.clone();
            self.scope.tasks.spawn(async move {
                let (scope, tls) = (backend.scope.clone(), backend.tls.clone());
                let handler = move |request| backend.clone().answer(request);
                let connection = Connection::new(stream, peer, permit, &scope).with_tls(tls);
                let lifecycle = Lifecycle { max_header_bytes: 1024 * 1024, ..Lifecycle::default() };
                serve_connection(connection, handler, &scope, &lifecycle).await;
            });
        }
    }

    /// Ends it like kill -9: every socket closes at once.
    pub(crate) async fn kill(&self) {
        self.scope.stopping.cancel();
        self.scope.tasks.close();
        self.scope.tasks.wait().await;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Connections made to it so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What its health check answers from now on.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Answer> {
        match request.uri().path() {
            "/health" => return status(if self.healthy.load(Ordering::Relaxed) { 200 } else { 503 }),
            "/grpc.health.v1.Health/Check" => {
                let serving = if self.healthy.load(Ordering::Relaxed) { 1 } else { 2 };
                return grpc(Bytes::from(vec![0, 0, 0, 0, 2, 8, serving]));
            }
            _ => {}
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        match request.uri().path().rsplit('/').next().unwrap() {
            "Echo" | "Get" => echo(request),
            "Hang" => {
                let _guard = Cancelled(Arc::clone(&self.cancelled));
                std::future::pending().await
            }
            "Socket" => socket(request, &self.scope),
            "Headers" => {
                let headers = format!("{} {:?}", request.uri(), request.headers());
                let mut response = grpc(Bytes::from(headers));
                response.headers_mut().insert("connection", "x-hop".parse().unwrap());
                response.headers_mut().insert("x-hop", "1".parse().unwrap());
                response
            }
            "SixtyEmpty" => {
                let empty = (0..60).map(|_| Ok(Frame::data(Bytes::new())));
                let rest = [Ok(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers()))];
                with_body(StreamBody::new(futures::stream::iter(empty.chain(rest))))
            }
            "EchoIfHealthy" if !self.healthy.load(Ordering::Relaxed) => failing("14", &[]),
            "EchoIfHealthy" => echo(request),
            "FailFirst" if self.calls() == 1 => failing("14", &[]),
            "FailFirst" => grpc(Bytes::from(format!("{:?}", request.headers()))),
            "Loaded" => loaded(),
            "AlwaysFail" => failing("14", &[]),
            "Pushback" => failing("14", &[("grpc-retry-pushback-ms", "-1")]),
            "HalfThenHang" => half(self.scope.stopping),
            _ => status(404),
        }
    }
}

struct Cancelled(Arc<AtomicU64>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn status(code: u16) -> Response<Answer> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("x-trailer", "kept".parse().unwrap());
    trailers
}

fn with_body<B: Body<Data = Bytes, Error = hyper::Error> + Send + 'static>(body: B) -> Response<Answer> {
    Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync()).unwrap()
}

fn grpc(data: Bytes) -> Response<Answer> {
    let frames = [Ok(Frame::data(data)), Ok(Frame::trailers(trailers()))];
    with_body(StreamBody::new(futures::stream::iter(frames)))
}

/// Headers, then trailers with a status other than OK: what a proxy that looks at headers only takes for a success.
fn failing(code: &str, more: &[(&'static str, &str)]) -> Response<Answer> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    for (name, value) in more {
        trailers.insert(*name, value.parse().unwrap());
    }
    with_body(StreamBody::new(futures::stream::iter([Ok(Frame::trailers(trailers))])))
}

/// Says that it has 50 calls in flight.
fn loaded() -> Response<Answer> {
    let mut trailers = trailers();
    weft_mesh::load_report::report(&mut trailers, 50);
    with_body(StreamBody::new(futures::stream::iter([Ok(Frame::trailers(trailers))])))
}

/// Changes to a protocol in which every byte comes back, and before them the headers that it was asked with.
fn socket(mut request: Request<Incoming>, scope: &Scope) -> Response<Answer> {
    let (asked, upgrade) = (format!("{:?}", request.headers()), hyper::upgrade::on(&mut request));
    let key = request.headers().get("sec-websocket-key").map_or("", |key| key.to_str().unwrap());
    let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(Sha1::digest(accept));
    let stopping = scope.stopping.clone();
    scope.tasks.spawn(stopping.run_until_cancelled_owned(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut read, mut write) = tokio::io::split(hyper_util::rt::TokioIo::new(upgraded));
        let _ = write.write_all(format!("{asked}\n").as_bytes()).await;
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    }));
    let mut response = status(101);
    let headers = response.headers_mut();
    headers.insert("connection", "Upgrade".parse().unwrap());
    headers.insert("upgrade", "WebSocket".parse().unwrap());
    headers.insert("sec-websocket-accept", accept.parse().unwrap());
    headers.insert("sec-websocket-protocol", "chat".parse().unwrap());
    response
}

/// Sends every frame back as it comes.
fn echo(request: Request<Incoming>) -> Response<Answer> {
    let http1 = request.version() < http::Version::HTTP_2;
    let frames = futures::stream::unfold((request.into_body(), false), move |(mut body, done)| async move {
        match futures::future::poll_fn(|cx| poll_full_frame(Pin::new(&mut body), cx)).await {
            Some(frame) => Some((frame, (body, done))),
            None if done || http1 => None,
            None => Some((Ok(Frame::trailers(trailers())), (body, true))),
        }
    });
    with_body(StreamBody::new(frames))
}

/// Sends one frame, then nothing until it is killed.
fn half(stopping: CancellationToken) -> Response<Answer> {
    let frames = futures::stream::unfold(0, move |step| {
        let stopping = stopping.clone();
        async move {
            if step > 0 {
                stopping.cancelled().await;
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Some((Ok(Frame::data(Bytes::from_static(b"half"))), step + 1))
        }
    });
    with_body(StreamBody::new(frames))
}
