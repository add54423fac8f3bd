//! Backends that follow a script, connection by connection.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::wire::{END_STREAM, Frame, Wire};

/// The headers a gRPC response begins with.
pub(super) const BEGIN: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];
/// The trailers of a success.
pub(super) const OK: &[(&str, &str)] = &[("grpc-status", "0")];
/// An empty message.
pub(super) const EMPTY: &[u8] = &[0; 5];

/// The frames of a whole response with an empty message.
pub(super) fn answer(stream: u32) -> [Frame; 3] {
    [Frame::headers(stream, 0, BEGIN), Frame::data(stream, EMPTY), Frame::headers(stream, END_STREAM, OK)]
}

/// What a backend has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicUsize,
    pub(super) calls: AtomicUsize,
    pub(super) pongs: AtomicUsize,
}

impl Seen {
    pub(super) fn call(&self) -> usize {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A backend whose connections run a script each.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    _stop: tokio_util::sync::DropGuard,
}

impl Backend {
    pub(super) async fn start<S, F>(settings: &'static [(u16, u32)], script: S) -> Self
    where
        S: Fn(Wire, Arc<Seen>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send,
    {
        Self::limited(usize::MAX, settings, script).await
    }

    /// One that takes so many connections and refuses more, as a backend does that is leaving.
    pub(super) async fn limited<S, F>(connections: usize, settings: &'static [(u16, u32)], script: S) -> Self
    where
        S: Fn(Wire, Arc<Seen>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::<Seen>::default(), CancellationToken::new());
        let (shared, stopped) = (Arc::clone(&seen), stop.clone());
        let tasks = TaskTracker::new();
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            for _ in 0..connections {
                let Ok((stream, _)) = listener.accept().await else { return };
                stream.set_nodelay(true).unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (script, seen) = (script.clone(), Arc::clone(&shared));
                let conversation = async move {
                    let wire = Wire::accept(stream, settings).await?;
                    // That the gateway closed the connection is no failure: scripts assert by what they answer.
                    script(wire, seen).await
                };
                tasks.spawn(stopped.clone().run_until_cancelled_owned(conversation));
            }
        }));
        Self { address, seen, _stop: stop.drop_guard() }
    }

    /// One that answers every call.
    pub(super) async fn good() -> Self {
        Self::start(&[], |mut wire, seen| async move {
            loop {
                let stream = wire.request().await?;
                seen.call();
                wire.send(&answer(stream)).await?;
            }
        })
        .await
    }
}
