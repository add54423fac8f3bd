//! One connection to RabbitMQ, made again whenever it breaks.
//!
//! lapin can recover connections by itself, but gives up after some tries and leaves channels and confirms in states of
//! their own; here a broken connection is dropped with all that hung on it, and those who use it begin anew.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use lapin::{Channel, Connection, ConnectionProperties, Event, uri::AMQPUri};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{bounded, topology::Topology};
use crate::{error::Error, job::backoff::Backoff, jobs::Result};

/// Waits between attempts to connect.
pub(super) const RECONNECT: Backoff =
    Backoff { base: Duration::from_millis(100), factor: 2.0, cap: Duration::from_secs(2) };
/// lapin tells of errors by events; this is for those it does not tell of.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A supervised connection. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<Arc<Connection>>>,
    topology: Arc<Topology>,
}

impl Link {
    pub(super) fn start(
        name: &str,
        uri: AMQPUri,
        timeout: Duration,
        topology: Arc<Topology>,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Link {
        let (publish, current) = watch::channel(None);
        let name = name.to_owned();
        tasks.spawn(async move {
            tokio::select! {
                () = supervise(&name, &uri, timeout, &publish) => {}
                () = stopping.cancelled() => {}
            }
            close(publish.send_replace(None)).await;
        });
        Link { current, topology }
    }

    pub(super) fn connected(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(|connection| connection.status().connected())
    }

    /// The connection, as soon as there is one. The caller bounds the wait.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>> {
        wait(&mut self.current.clone()).await
    }

    /// A new channel on a connection where all queues exist. The caller bounds the wait.
    pub(super) async fn channel(&self) -> Result<LinkChannel> {
        let mut current = self.current.clone();
        let connection = wait(&mut current).await?;
        self.topology.ensure(&connection).await?;
        let channel = connection.create_channel().await.map_err(Error::broker)?;
        Ok(LinkChannel { channel, link: current })
    }
}

async fn wait(current: &mut watch::Receiver<Option<Arc<Connection>>>) -> Result<Arc<Connection>> {
    let connection = current.wait_for(Option::is_some).await.map_err(|_| Error::Stopping)?.clone();
    connection.ok_or(Error::Stopping)
}

/// A channel that knows when its connection has gone: not every consumer of lapin's is told.
pub(super) struct LinkChannel {
    channel: Channel,
    link: watch::Receiver<Option<Arc<Connection>>>,
}

impl LinkChannel {
    /// Whether it is worth using.
    pub(super) fn connected(&self) -> bool {
        self.channel.status().connected() && !self.link.has_changed().unwrap_or(true)
    }

    /// Returns when its connection has gone.
    pub(super) async fn lost(&mut self) {
        while self.connected() {
            if tokio::time::timeout(CHECK_INTERVAL, self.link.changed()).await.is_ok() {
                return;
            }
        }
    }
}

impl std::ops::Deref for LinkChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

async fn supervise(
    name: &str,
    uri: &AMQPUri,
    timeout: Duration,
    publish: &watch::Sender<Option<Arc<Connection>>>,
) {
    let mut failures = 0;
    loop {
        match bounded(timeout, connect(name, uri)).await {
            Ok(connection) => {
                failures = 0;
                tracing::info!(connection = name, "connected to RabbitMQ");
                let connection = Arc::new(connection);
                publish.send_replace(Some(connection.clone()));
                lost(&connection).await;
                publish.send_replace(None);
                tracing::warn!(connection = name, "lost the connection to RabbitMQ, reconnecting");
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    let error = weft_mesh::error::chain(&error);
                    tracing::warn!(connection = name, error, "cannot connect to RabbitMQ, trying on");
                }
            }
        }
        tokio::time::sleep(RECONNECT.delay(failures.max(1), fastrand::f64(), Duration::ZERO)).await;
    }
}

async fn connect(name: &str, uri: &AMQPUri) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect_uri(uri.clone(), properties).await.map_err(Error::broker)
}

/// Returns when a connection is broken.
async fn lost(connection: &Connection) {
    let mut events = connection.events_listener();
    while connection.status().connected() {
        match tokio::time::timeout(CHECK_INTERVAL, events.next()).await {
            Ok(Some(Event::Error(_)) | None) => return,
            Ok(Some(Event::ConnectionBlocked(reason))) => {
                tracing::warn!(reason, "RabbitMQ holds back publishers");
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

async fn close(connection: Option<Arc<Connection>>) {
    if let Some(connection) = connection {
        let closing = connection.close(200, "stopping".into());
        let _ = tokio::time::timeout(Duration::from_millis(500), closing).await;
    }
}
