//! Connections to one backend: a few HTTP/2 connections shared by all calls, or a set of HTTP/1.1 ones lent call by call.

mod lent;
mod shared;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http1};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use weft_balance::verdict::{How, Timeout};

pub(crate) use self::shared::Occupied;
use self::{lent::LentConnections, shared::SharedConnections};
use crate::{
    BoxError, Replay,
    pool::{Pool, Protocol, Settings, count},
    tls::{ClientTls, Stream},
};

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An attempt that failed before there were response headers.
#[derive(Debug)]
pub(crate) struct LinkError {
    /// What ended it.
    pub(crate) how: How<'static>,
    /// Why, for people.
    pub(crate) source: BoxError,
}

impl LinkError {
    fn connect(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        let timed_out =
            source.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut);
        let how = if timed_out { How::TimedOut(Timeout::Connect) } else { How::ConnectFailed };
        Self { how, source }
    }

    fn sent(error: hyper::Error, unsent: bool) -> Self {
        let how = if unsent || never_opened(&error) { How::ClosedUnsent } else { how(&error) };
        Self { how, source: error.into() }
    }
}

/// Whether a connection ended while the stream still waited in it for the peer to allow it, so that nothing of the call
/// was sent. hyper drops such a call without a word; it has no other name for that error.
fn never_opened(error: &hyper::Error) -> bool {
    error.is_user() && error.to_string().starts_with("dispatch task is gone")
}

/// What ended a stream.
pub(crate) fn how(error: &hyper::Error) -> How<'static> {
    let h2 = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    let Some(h2) = h2 else { return How::Broken };
    let code = h2.reason().map_or(0, u32::from);
    match () {
        () if h2.is_remote() && h2.is_reset() => How::Reset { code },
        // Only streams above the last id of a GOAWAY end with it (RFC 9113 §6.8).
        () if h2.is_remote() && h2.is_go_away() => How::GoAway { code, above_last_id: true },
        () if h2.is_library() => How::ProtocolError,
        () => How::Broken,
    }
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
pub(crate) enum Link<B> {
    /// HTTP/2.
    Shared(Arc<SharedConnections<B>>),
    /// HTTP/1.1.
    Lent(LentConnections<B>),
}

impl<B> Link<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(address: &str, wire: Wire, pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        match wire.protocol {
            Protocol::Grpc => Self::Shared(Arc::new(SharedConnections::new(address, wire, pool, tasks))),
            Protocol::Http => Self::Lent(LentConnections::new(address, wire, pool, tasks)),
        }
    }

    /// Sends a call and waits for its response headers.
    pub(crate) async fn send(&self, request: Request<Replay<B>>) -> Result<Response<LinkBody<B>>, LinkError> {
        match self {
            Self::Shared(connections) => connections.send(request).await,
            Self::Lent(connections) => connections.send(request).await,
        }
    }

    /// Takes a lent connection back when its response has been read to the end.
    pub(crate) fn give_back(&self, sender: http1::SendRequest<Replay<B>>) {
        if let Self::Lent(connections) = self {
            connections.give_back(sender);
        }
    }
}

/// A response body and what it occupies until its end: a place on a shared connection, or a whole one.
pub(crate) struct LinkBody<B> {
    pub(crate) incoming: Incoming,
    pub(crate) held: Held<B>,
}

/// What a response body occupies.
pub(crate) enum Held<B> {
    /// A stream of an HTTP/2 connection.
    Stream {
        /// Counted until this is dropped.
        _occupied: Occupied,
    },
    /// An HTTP/1.1 connection.
    Connection(http1::SendRequest<Replay<B>>),
}

/// How the connections of an owner to a backend are made.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<Arc<ClientTls>>,
}

impl Wire {
    /// As a pool's settings have it now: a connection does not change it.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { protocol: settings.protocol, tls: settings.tls.clone() }
    }

    /// Connects to a backend of a pool.
    pub(crate) async fn connect(&self, address: &str, pool: &Pool) -> io::Result<Stream> {
        let stream = open(address).await?;
        match &self.tls {
            Some(tls) => tls.secure(stream, &pool.host_of(address), self.protocol.alpn()).await,
            None => Ok(stream.into()),
        }
    }

    /// The same for a call, which counts a failure.
    async fn connect_for_call(&self, address: &str, pool: &Pool) -> io::Result<Stream> {
        let connected = self.connect(address, pool).await;
        if connected.is_err() {
            count(&pool.tally.connect_fail);
        }
        connected
    }
}

/// Connects with the options every connection of the mesh has.
pub(crate) async fn open(address: &str) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect(address);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_TIMEOUT:?}"))
    })??;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    // A machine that vanished is noticed by the kernel: while it retransmits, and when nothing is to be sent. What HTTP/2
    // has for that, PING, too many servers take for abuse.
    socket.set_tcp_user_timeout(Some(Duration::from_secs(20)))?;
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(5));
    socket.set_tcp_keepalive(&probes.with_retries(2))?;
    Ok(stream)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
