//! HTTP/2 connections: calls share one until it is well used, then a further one is opened beside it (gRFC A105).
//!
//! The oldest connection with room is filled first, so that those opened in a rush run empty again. A connection whose
//! peer allows no more streams queues calls only when no other has room and no further one may be opened.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::task::TaskTracker;

use super::{Held, LinkBody, LinkError, Tasks, Wire, lock};
use crate::{
    BoxError, Replay,
    pool::{Pool, count},
};

/// How much of a stream may be under way unread: HTTP/2's own default. Small beside the connection's window, so that
/// slow readers do not stop the others on the connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// How much of all streams may be under way unread, which their own windows keep far below it. h2 ends a connection
/// with too many small unread frames, each counted as 256 bytes against half of this: it has to allow for all streams
/// of a connection full of frames the size of a token.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024 * 1024;
/// How long the answer to a PING may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of one request body may wait in a connection for the backend's window.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Connections per backend and owner.
const CONNECTION_LIMIT: usize = 8;
/// Streams after which a further connection is opened, if the peer does not allow fewer: three quarters of what it
/// allows.
const WELL_USED: usize = 128;
/// What a peer is taken to allow until it has answered (RFC 9113 §6.5.2 recommends no less).
const ASSUMED_STREAMS: usize = 100;
/// What is sent of it before its SETTINGS have come. The others wait in the connection: a peer that allows fewer would
/// refuse them, and look ill.
const FIRST_STREAMS: usize = 1;

/// The HTTP/2 connections of one owner to one backend.
pub(crate) struct SharedConnections<B> {
    address: String,
    wire: Wire,
    pool: Arc<Pool>,
    tasks: TaskTracker,
    /// The oldest first.
    open: Mutex<Vec<Connection<B>>>,
    /// Held while a connection is made; when the last attempt failed, and why.
    connecting: tokio::sync::Mutex<Option<(Instant, String)>>,
}

struct Connection<B> {
    sender: http2::SendRequest<Replay<B>>,
    streams: Arc<Streams>,
}

/// How many streams a connection has, and may have.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    /// As the connection had it when it was last asked; 0 before it knew.
    allowed: AtomicUsize,
    /// Whether the peer's SETTINGS have come: they do before any answer.
    answered: AtomicBool,
}

impl Streams {
    fn allowed(&self) -> usize {
        match self.allowed.load(Ordering::Relaxed) {
            0 => ASSUMED_STREAMS,
            allowed => allowed,
        }
    }

    fn has_room(&self) -> bool {
        let allowed = self.allowed();
        self.open.load(Ordering::Relaxed) < (allowed - allowed / 4).clamp(1, WELL_USED)
    }

    fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.allowed()
    }
}

/// A stream of a connection, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Occupied(Arc<Streams>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

type Place<B> = (http2::SendRequest<Replay<B>>, Occupied);

/// What the open connections offer a call.
enum Offer<B> {
    /// A place on a connection that is not well used yet.
    Room(Place<B>),
    /// A place on one that is; a further connection should be opened.
    Crowded(Place<B>),
    /// No stream is left on any: a further connection must be opened.
    Full,
}

impl<B> SharedConnections<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(address: &str, wire: Wire, pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        Self {
            address: address.to_owned(),
            wire,
            pool,
            tasks,
            open: Mutex::new(Vec::new()),
            connecting: tokio::sync::Mutex::new(None),
        }
    }

    pub(super) async fn send(
        self: &Arc<Self>,
        request: Request<Replay<B>>,
    ) -> Result<Response<LinkBody<B>>, LinkError> {
        let (mut sender, occupied) = self.place().await?;
        match sender.try_send_request(request).await {
            Ok(response) => {
                occupied.0.answered.store(true, Ordering::Relaxed);
                Ok(response.map(|incoming| LinkBody { incoming, held: Held::Stream { _occupied: occupied } }))
            }
            Err(mut refused) => {
                let unsent = refused.take_message().is_some();
                Err(LinkError::sent(refused.into_error(), unsent))
            }
        }
    }

    async fn place(self: &Arc<Self>) -> Result<Place<B>, LinkError> {
        match self.offer() {
            Offer::Room(place) => Ok(place),
            Offer::Crowded(place) => {
                self.open_beside();
                Ok(place)
            }
            // Boxed, because it is large and rare, and each call has room for it otherwise.
            Offer::Full => Box::pin(self.connected()).await,
        }
    }

    /// Looks for a place: the oldest connection with room, else the least used one, unless a further one may be opened
    /// and there is no stream left.
    fn offer(&self) -> Offer<B> {
        let mut open = lock(&self.open);
        open.retain(|connection| !connection.sender.is_closed());
        let room = open.iter().find(|connection| connection.streams.has_room());
        let least = || open.iter().min_by_key(|connection| connection.streams.open.load(Ordering::Relaxed));
        match (room, least()) {
            (Some(connection), _) => Offer::Room(connection.occupy()),
            (None, Some(least)) if open.len() == CONNECTION_LIMIT => Offer::Room(least.occupy()),
            (None, Some(least)) if !least.streams.is_full() => Offer::Crowded(least.occupy()),
            _ => Offer::Full,
        }
    }

    /// Opens a further connection, for calls to come.
    fn open_beside(self: &Arc<Self>) {
        if self.connecting.try_lock().is_err() {
            return;
        }
        let connections = Arc::clone(self);
        self.tasks.spawn(async move {
            let Ok(mut failed) = connections.connecting.try_lock() else { return };
            if let Err(error) = connections.connect().await {
                *failed = Some((Instant::now(), crate::error::chain(&*error)));
            }
        });
    }

    /// A place on a new connection; concurrent callers wait for one attempt.
    async fn connected(&self) -> Result<Place<B>, LinkError> {
        let asked = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Offer::Room(place) | Offer::Crowded(place) = self.offer() {
            return Ok(place);
        }
        // Whoever waited for an attempt that failed shares its failure, instead of queueing for the next.
        if let Some((when, reason)) = &*failed
            && *when > asked
        {
            return Err(LinkError::connect(reason.clone()));
        }
        let connected = self.connect().await;
        *failed = connected.as_ref().err().map(|error| (Instant::now(), crate::error::chain(&**error)));
        connected.map_err(LinkError::connect)
    }

    async fn connect(&self) -> Result<Place<B>, BoxError> {
        let stream = self.wire.connect_for_call(&self.address, &self.pool).await?;
        let handshake = http2::Builder::new(Tasks(self.tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_header_list_size(64 * 1024)
            .keep_alive_interval(self.pool.settings().ping_interval)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream));
        let (sender, mut connection) = handshake.await?;
        count(&self.pool.tally.connections);
        let streams = Arc::new(Streams::default());
        let (address, pool, counted) = (self.address.clone(), Arc::clone(&self.pool), Arc::clone(&streams));
        self.tasks.spawn(async move {
            // Polled for every call sent, which is when the peer's limit matters.
            let ended = poll_fn(|cx| {
                let known = counted.answered.load(Ordering::Relaxed);
                let polled = Pin::new(&mut connection).poll(cx);
                if known {
                    counted.allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
                }
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(address, error = %crate::error::chain(&error), "connection ended");
            }
            count(&pool.tally.connections_ended);
            pool.suspect(&address);
        });
        let connection = Connection { sender, streams };
        let place = connection.occupy();
        lock(&self.open).push(connection);
        Ok(place)
    }
}

impl<B> Connection<B> {
    fn occupy(&self) -> Place<B> {
        self.streams.open.fetch_add(1, Ordering::Relaxed);
        (self.sender.clone(), Occupied(Arc::clone(&self.streams)))
    }
}
