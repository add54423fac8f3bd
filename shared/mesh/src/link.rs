//! Connections to one backend: one HTTP/2 connection shared by all calls, or a set of HTTP/1.1 ones lent call by call.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::{
    BoxError, Replay,
    pool::{Pool, Protocol},
};

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of a stream may be under way unread: enough for a large message, small beside the connection's window.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// How much of all streams may be under way unread. Fixed: adaptive windows start so small that a burst of token-sized
/// frames looks like a flood to h2.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Idle HTTP/1.1 connections kept per backend.
const IDLE_LIMIT: usize = 64;

/// How an attempt failed.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// No connection could be made: certainly not executed.
    Connect(BoxError),
    /// The backend refused the stream before looking at it: certainly not executed.
    Refused(BoxError),
    /// The connection closed before the call was sent on it: certainly not executed.
    Closed(BoxError),
    /// It broke after it was sent: it may have been executed.
    Broken(BoxError),
}

/// Runs hyper's own tasks where everybody can wait for them.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The connections of one owner to one backend.
pub(crate) struct Link<B> {
    address: String,
    pool: Arc<Pool>,
    tasks: TaskTracker,
    shared: Mutex<Option<http2::SendRequest<Replay<B>>>>,
    idle: Mutex<Vec<http1::SendRequest<Replay<B>>>>,
    /// Held while a connection is made; when the last attempt failed, and why.
    connecting: tokio::sync::Mutex<Option<(Instant, String)>>,
}

impl<B> Link<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(address: &str, pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        Self {
            address: address.to_owned(),
            pool,
            tasks,
            shared: Mutex::new(None),
            idle: Mutex::new(Vec::new()),
            connecting: tokio::sync::Mutex::new(None),
        }
    }

    /// Sends a call and waits for its response headers.
    pub(crate) async fn send(&self, request: Request<Replay<B>>) -> Result<Response<LinkBody<B>>, LinkError> {
        match self.pool.settings.protocol {
            Protocol::Grpc => self.send_shared(request).await,
            Protocol::Http => self.send_lent(request).await,
        }
    }

    async fn send_shared(&self, request: Request<Replay<B>>) -> Result<Response<LinkBody<B>>, LinkError> {
        let mut sender = self.shared_sender().await?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|body| LinkBody { incoming: body, lent: None })),
            Err(mut refused) => {
                let unsent = refused.take_message().is_some();
                Err(classify(refused.into_error(), unsent))
            }
        }
    }

    /// The shared connection, made if there is none; concurrent callers wait for one attempt.
    async fn shared_sender(&self) -> Result<http2::SendRequest<Replay<B>>, LinkError> {
        if let Some(sender) = self.live() {
            return Ok(sender);
        }
        let asked = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(sender) = self.live() {
            return Ok(sender);
        }
        // Whoever waited for an attempt that failed shares its failure, instead of queueing for the next.
        if let Some((when, reason)) = &*failed
            && *when > asked
        {
            return Err(LinkError::Connect(reason.clone().into()));
        }
        let connected = self.connect_shared().await;
        *failed = connected.as_ref().err().map(|error| (Instant::now(), crate::error::chain(&**error)));
        connected.map_err(LinkError::Connect)
    }

    async fn connect_shared(&self) -> Result<http2::SendRequest<Replay<B>>, BoxError> {
        let stream = connect(&self.address).await?;
        let handshake = http2::Builder::new(Tasks(self.tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(64 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        let (address, pool) = (self.address.clone(), Arc::clone(&self.pool));
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(address, error = %crate::error::chain(&error), "connection ended");
            }
            pool.suspect(&address);
        });
        *lock(&self.shared) = Some(sender.clone());
        Ok(sender)
    }

    fn live(&self) -> Option<http2::SendRequest<Replay<B>>> {
        let mut shared = lock(&self.shared);
        if shared.as_ref().is_some_and(http2::SendRequest::is_closed) {
            *shared = None;
        }
        shared.clone()
    }

    async fn send_lent(&self, request: Request<Replay<B>>) -> Result<Response<LinkBody<B>>, LinkError> {
        let mut sender = match self.lend() {
            Some(sender) => sender,
            None => self.connect_lent().await?,
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|body| LinkBody { incoming: body, lent: Some(sender) })),
            Err(mut refused) => {
                let unsent = refused.take_message().is_some();
                Err(classify(refused.into_error(), unsent))
            }
        }
    }

    fn lend(&self) -> Option<http1::SendRequest<Replay<B>>> {
        let mut idle = lock(&self.idle);
        std::iter::from_fn(|| idle.pop()).find(http1::SendRequest::is_ready)
    }

    async fn connect_lent(&self) -> Result<http1::SendRequest<Replay<B>>, LinkError> {
        let stream = connect(&self.address).await.map_err(|error| LinkError::Connect(error.into()))?;
        let handshake = http1::Builder::new().max_headers(256).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| LinkError::Connect(error.into()))?;
        self.tasks.spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Takes a lent connection back when its response has been read to the end.
    pub(crate) fn give_back(&self, sender: http1::SendRequest<Replay<B>>) {
        let mut idle = lock(&self.idle);
        if !sender.is_closed() && idle.len() < IDLE_LIMIT {
            idle.push(sender);
        }
    }
}

/// A response body and, on HTTP/1.1, the connection it occupies.
pub(crate) struct LinkBody<B> {
    pub(crate) incoming: Incoming,
    pub(crate) lent: Option<http1::SendRequest<Replay<B>>>,
}

/// Connects with the options every connection of the mesh has.
pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(address);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_TIMEOUT:?}"))
    })??;
    stream.set_nodelay(true)?;
    // A peer that vanished is noticed even while the kernel still retransmits.
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn classify(error: hyper::Error, unsent: bool) -> LinkError {
    if unsent {
        return LinkError::Closed(error.into());
    }
    let h2 = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>());
    match h2 {
        Some(h2) if h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            LinkError::Refused(error.into())
        }
        // Only streams above the last id of a GOAWAY end with it (RFC 9113 §6.8).
        Some(h2) if h2.is_go_away() && h2.is_remote() => LinkError::Closed(error.into()),
        _ => LinkError::Broken(error.into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
