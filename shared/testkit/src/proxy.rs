//! A TCP proxy that misbehaves on command: the network between a service and its dependency.
mod connection;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connection::forward;

/// A TCP proxy in front of a server. It forwards until it is told otherwise; it ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    upstream: SocketAddr,
    weather: watch::Sender<Weather>,
    listener: Mutex<Option<Tasks>>,
    connections: Arc<Mutex<Tasks>>,
}

/// What happens to bytes on their way, in both directions.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    stalled: bool,
    latency: Duration,
}

/// Tasks that end together.
#[derive(Clone, Debug, Default)]
struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl FaultProxy {
    /// Listens on a port of its own, in front of `upstream`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, crate::free_port()?)).await?;
        let proxy = Self {
            address: listener.local_addr()?,
            upstream,
            weather: watch::Sender::new(Weather::default()),
            listener: Mutex::default(),
            connections: Arc::default(),
        };
        proxy.listen(listener);
        Ok(proxy)
    }

    /// Where clients connect instead of to the upstream.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The upstream's URL, leading through the proxy.
    ///
    /// # Panics
    /// When the URL does not name the upstream's address: a test would bypass the proxy without noticing.
    #[track_caller]
    pub fn url(&self, url: &str) -> String {
        let (upstream, address) = (self.upstream.to_string(), self.address.to_string());
        assert!(url.contains(&upstream), "{url} does not lead to {upstream}");
        url.replacen(&upstream, &address, 1)
    }

    /// Resets every open connection; new ones go through. Returns when all are closed.
    pub async fn cut(&self) {
        let old = std::mem::take(&mut *lock(&self.connections));
        old.finish().await;
    }

    /// Refuses new connections, as a server that is down does, and resets the open ones.
    pub async fn refuse(&self) {
        let listener = lock(&self.listener).take();
        if let Some(listener) = listener {
            listener.finish().await;
        }
        self.cut().await;
    }

    /// Lets no byte pass in either direction: connections open and stay open, and nothing answers.
    pub async fn stall(&self) {
        self.weather.send_modify(|weather| weather.stalled = true);
    }

    /// Delays every piece of at most 16 KiB by this much, in each direction.
    pub async fn delay(&self, latency: Duration) {
        self.weather.send_modify(|weather| weather.latency = latency);
    }

    /// Forwards again as in the beginning; what a stall held back arrives now.
    ///
    /// # Errors
    /// When it refused connections and its port has been taken meanwhile.
    pub async fn heal(&self) -> io::Result<()> {
        self.weather.send_replace(Weather::default());
        if lock(&self.listener).is_none() {
            self.listen(TcpListener::bind(self.address).await?);
        }
        Ok(())
    }

    /// How many client connections are open.
    pub fn connections(&self) -> usize {
        lock(&self.connections).tracker.len()
    }

    fn listen(&self, listener: TcpListener) {
        let tasks = Tasks::default();
        let (end, upstream, weather) = (tasks.end.clone(), self.upstream, self.weather.subscribe());
        let connections = Arc::clone(&self.connections);
        tasks.tracker.spawn(async move {
            while let Some(Ok((client, _))) = end.run_until_cancelled(listener.accept()).await {
                let tasks = lock(&connections).clone();
                tasks.tracker.spawn(forward(client, upstream, weather.clone(), tasks.end));
            }
        });
        *lock(&self.listener) = Some(tasks);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        lock(&self.connections).end.cancel();
        if let Some(listener) = lock(&self.listener).take() {
            listener.end.cancel();
        }
    }
}

impl Tasks {
    async fn finish(self) {
        self.end.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
