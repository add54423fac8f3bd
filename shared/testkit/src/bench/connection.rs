//! A client connection that is made anew when it has ended.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One HTTP/2 connection at a time to a server, with prior knowledge.
#[derive(Debug)]
pub(super) struct Connection {
    target: SocketAddr,
    drivers: Drivers,
    open: Mutex<Open>,
}

/// The tasks that drive connections; they end together.
#[derive(Clone, Debug, Default)]
pub(super) struct Drivers {
    tracker: TaskTracker,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct Open {
    /// How many there have been.
    generation: u64,
    sender: Option<SendRequest<Bytes>>,
}

impl Connection {
    pub(super) fn new(target: SocketAddr, drivers: Drivers) -> Self {
        Self { target, drivers, open: Mutex::default() }
    }

    /// Room for one call, on a new connection if the one there was has ended or takes nothing new. Callers wait for one
    /// attempt.
    pub(super) async fn ready(&self) -> io::Result<SendRequest<Bytes>> {
        let (generation, sender) = self.current(None).await?;
        match sender.ready().await {
            Ok(sender) => Ok(sender),
            Err(_) => self.current(Some(generation)).await?.1.ready().await.map_err(io::Error::other),
        }
    }

    /// The connection that is open, but not the one that ended.
    async fn current(&self, ended: Option<u64>) -> io::Result<(u64, SendRequest<Bytes>)> {
        let mut open = self.open.lock().await;
        if ended == Some(open.generation) {
            open.sender = None;
        }
        if let Some(sender) = &open.sender {
            return Ok((open.generation, sender.clone()));
        }
        let sender = self.connect().await?;
        open.generation += 1;
        open.sender = Some(sender.clone());
        Ok((open.generation, sender))
    }

    async fn connect(&self) -> io::Result<SendRequest<Bytes>> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let handshake = Builder::new().enable_push(false).handshake(stream);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let end = self.drivers.end.clone();
        // Its calls tell how it ended.
        self.drivers.tracker.spawn(async move { end.run_until_cancelled(connection).await });
        Ok(sender)
    }
}

impl Drivers {
    /// Ends all connections.
    pub(super) async fn finish(self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
