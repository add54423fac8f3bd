//! A TCP proxy that misbehaves on command: the network between a service and its dependency.
mod connection;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connection::forward;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Locally a connection is made within a fraction of this, or not at all.
const UNANSWERED: Duration = Duration::from_millis(100);

/// A TCP proxy in front of a server. It forwards until it is told otherwise; it ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    upstream: SocketAddr,
    weather: watch::Sender<Weather>,
    listener: Mutex<Option<Tasks>>,
    connections: Arc<Mutex<Tasks>>,
    /// They occupy the listener's queue while it is unreachable.
    plugs: Mutex<Vec<TcpStream>>,
}

/// What happens to bytes on their way, in both directions.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    stalled: bool,
    latency: Duration,
    /// No connection comes about; nobody is told why.
    unreachable: bool,
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
            plugs: Mutex::default(),
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

    /// Is as if the network between had parted: no byte passes, and who connects hears nothing at all.
    ///
    /// # Errors
    /// When the listener cannot be told, or does not heed it.
    pub async fn part(&self) -> io::Result<()> {
        self.weather.send_modify(|weather| (weather.stalled, weather.unreachable) = (true, true));
        // The kernel accepts for the listener until its queue is full, and ignores everybody after that.
        for _ in 0..BACKLOG {
            match timeout(UNANSWERED, TcpStream::connect(self.address)).await {
                Ok(plug) => lock(&self.plugs).push(plug?),
                Err(_) => return Ok(()),
            }
        }
        Err(io::Error::other("the listener still answers"))
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
        lock(&self.plugs).clear();
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
        let accepting =
            accept(listener, self.upstream, self.weather.subscribe(), Arc::clone(&self.connections));
        let end = tasks.end.clone();
        tasks.tracker.spawn(async move { end.run_until_cancelled(accepting).await });
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

/// Accepts connections until it fails or the proxy is gone, but none while it is unreachable.
async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    connections: Arc<Mutex<Tasks>>,
) -> io::Result<()> {
    loop {
        let unreachable = weather.borrow_and_update().unreachable;
        // Of a socket that listens already this only sets how many may wait.
        SockRef::from(&listener).listen(if unreachable { 0 } else { BACKLOG })?;
        let accepting =
            async { if unreachable { std::future::pending().await } else { listener.accept().await } };
        let mut changes = weather.clone();
        tokio::select! {
            accepted = accepting => {
                let tasks = lock(&connections).clone();
                tasks.tracker.spawn(forward(accepted?.0, upstream, weather.clone(), tasks.end));
            }
            changed = changes.changed() => changed.map_err(io::Error::other)?,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
