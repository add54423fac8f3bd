//! A client connection that is made anew when it has ended.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a stream, and all those of a connection, may be sent before they are read. So large that it is never the client
/// who holds them up: h2 also bounds by it how many small frames may wait to be read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

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
    /// So many connections, all open.
    pub(super) async fn open(
        count: usize,
        target: SocketAddr,
        drivers: &Drivers,
    ) -> io::Result<Vec<Arc<Self>>> {
        let new = |_| Arc::new(Self { target, drivers: drivers.clone(), open: Mutex::default() });
        let connections: Vec<_> = (0..count).map(new).collect();
        for connection in &connections {
            connection.ready().await?;
        }
        Ok(connections)
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
        let mut builder = Builder::new();
        builder.enable_push(false).initial_window_size(STREAM_WINDOW_BYTES);
        builder.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
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
