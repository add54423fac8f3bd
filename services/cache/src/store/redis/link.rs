//! The one connection to Redis: made, probed and replaced in the background.
//!
//! Calls share the connection by pipelining, and never wait for one: while there is none they fail at once. (The
//! client library's own `ConnectionManager` is not used, because its callers wait through its reconnect backoff, and
//! because it keeps a connection that merely stopped answering.)

use std::{
    convert::Infallible,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo as _, ProtocolVersion, PushInfo, PushKind,
    RedisError, ServerErrorKind, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use weft_balance::{Health, HealthMachine};
use weft_mesh::error::chain;

use super::{RedisSettings, wire};
use crate::{key::Key, store::StoreError};

/// The shortest time between two attempts to connect.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// How much of the server's run id goes into names.
const RUN_DIGITS: usize = 12;

/// Why a URL is no Redis server's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(RedisError);

/// Whether a URL may be a Redis server's.
///
/// # Errors
/// When it may not.
pub fn check_url(url: &str) -> Result<(), UrlError> {
    Client::open(url).map(drop).map_err(UrlError)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("not connected to redis")]
    NotConnected,
    #[error("redis failed")]
    Redis(#[from] RedisError),
    #[error("redis did not answer within {0:?}")]
    Silent(Duration),
    #[error("redis {0} is too old, 7.0 or newer is needed")]
    TooOld(String),
    #[error("the redis server is a replica, which takes no writes")]
    Replica,
}

/// The calls' side of the connection.
#[derive(Default)]
pub(super) struct Link {
    live: RwLock<Option<Arc<Live>>>,
    reachable: AtomicBool,
    wake: Notify,
}

/// A connection that answered, and what it told.
pub(super) struct Live {
    connection: MultiplexedConnection,
    prefix: String,
    /// Against this the server's clock is told, so that ours need not agree with it.
    started: Instant,
    /// Milliseconds of the server's clock at `started`, never too late.
    clock: AtomicI64,
}

/// Keeps a store's connection alive: run it beside the store.
pub struct Keeper {
    link: Arc<Link>,
    client: Client,
    settings: RedisSettings,
}

impl Link {
    /// The connection, if there is one.
    pub(super) fn live(&self) -> Result<Arc<Live>, StoreError> {
        self.current().ok_or_else(|| StoreError::Unreachable(LinkError::NotConnected.into()))
    }

    /// A call got its answer.
    pub(super) fn answered(&self) {
        self.reachable.store(true, Relaxed);
    }

    /// A call got none in time: probe, and replace the connection if the probe gets none either.
    pub(super) fn silent(&self) {
        self.reachable.store(false, Relaxed);
        self.wake.notify_one();
    }

    /// A call got an error: tells whether it was the connection's, which is then replaced.
    pub(super) fn failed(&self, live: &Arc<Live>, error: RedisError) -> StoreError {
        let unusable = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
            )
        );
        if unusable || error.is_io_error() || error.is_unrecoverable_error() {
            self.lose(live);
            return StoreError::Unreachable(error.into());
        }
        self.answered();
        StoreError::Refused(error.into())
    }

    /// Whether the last call or probe was answered.
    pub(super) fn reachable(&self) -> bool {
        self.reachable.load(Relaxed)
    }

    fn current(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, live: Arc<Live>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
    }

    /// Drops the connection unless it has been replaced already, and has a new one made.
    fn lose(&self, lost: &Arc<Live>) {
        self.reachable.store(false, Relaxed);
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, lost)) {
            *live = None;
            self.wake.notify_one();
        }
    }
}

impl Live {
    /// A handle that shares the connection.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// A key's name in Redis.
    pub(super) fn name(&self, key: &Key) -> String {
        format!("{}{}", self.prefix, key.as_str())
    }

    /// A moment on the server's clock, in milliseconds since 1970: not later than it really is, and earlier by at most
    /// the round trip of the last probe.
    pub(super) fn server_millis(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.started).as_millis();
        self.clock.load(Relaxed).saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// Asks whether the server serves, and what time it is there.
    async fn probe(&self) -> Result<(), RedisError> {
        let mut connection = self.connection();
        let mut probe = redis::pipe();
        let (time,) = probe.cmd("PING").ignore().cmd("TIME").query_async(&mut connection).await?;
        self.clock.store(clock_at(self.started, time), Relaxed);
        Ok(())
    }
}

impl Keeper {
    pub(super) fn new(settings: RedisSettings) -> Result<Self, UrlError> {
        let info = settings.url.as_str().into_connection_info().map_err(UrlError)?;
        // RESP3 tells at once when an idle connection is lost; delayed small writes would cost 40 ms.
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = TcpSettings::default().set_nodelay(true);
        let client = Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp)).map_err(UrlError)?;
        Ok(Self { link: Arc::default(), client, settings })
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Connects, probes and reconnects until told to end; the connection stays for the calls still in flight.
    /// `report` learns each change of the store's health, and what the first attempt gave.
    pub async fn run(self, end: CancellationToken, report: impl Fn(Result<(), String>) + Send) {
        let mut health = HealthMachine::new(self.settings.thresholds);
        let mut pause = MIN_PAUSE;
        while let Some(outcome) = end.run_until_cancelled(self.check()).await {
            self.link.reachable.store(outcome.is_ok(), Relaxed);
            pause = if outcome.is_ok() { MIN_PAUSE } else { (2 * pause).min(self.settings.probe_interval) };
            let change = if outcome.is_ok() { health.passed() } else { health.failed() };
            match (change, &outcome) {
                (Some(Health::Healthy), _) => {
                    tracing::info!("redis is reachable");
                    report(Ok(()));
                }
                (Some(_), Err(error)) => {
                    tracing::warn!(error = %chain(error), "redis is unreachable: reads miss, writes fail");
                    report(Err(chain(error)));
                }
                _ => {}
            }
            let wait = self.wait(pause, outcome.is_ok());
            if end.run_until_cancelled(wait).await.is_none() {
                break;
            }
        }
    }

    /// Until the next check: an interval while all is well, or until a call sees trouble; else a growing pause.
    async fn wait(&self, pause: Duration, well: bool) {
        if well {
            let _ = timeout(self.settings.probe_interval, self.link.wake.notified()).await;
        }
        sleep(pause).await;
    }

    async fn check(&self) -> Result<(), LinkError> {
        let limit = self.settings.timeout;
        let Some(live) = self.link.current() else {
            // The library's own connect timeout has been seen not to hold.
            let live =
                timeout(2 * limit, self.connect()).await.map_err(|_| LinkError::Silent(2 * limit))??;
            self.link.put(live);
            return Ok(());
        };
        let probe = match timeout(limit, live.probe()).await {
            Ok(answer) => answer.map_err(LinkError::from),
            Err(_) => Err(LinkError::Silent(limit)),
        };
        if probe.is_err() {
            self.link.lose(&live);
        }
        probe
    }

    async fn connect(&self) -> Result<Arc<Live>, LinkError> {
        let (link, slot) = (Arc::downgrade(&self.link), Arc::new(RwLock::new(Weak::new())));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(on_disconnect(link, Arc::clone(&slot)));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;

        let mut ask = redis::pipe();
        ask.cmd("INFO").arg("server").cmd("INFO").arg("replication").cmd("PING").ignore().cmd("TIME");
        let started = Instant::now();
        let (server, replication, time): (redis::InfoDict, redis::InfoDict, (i64, i64)) =
            ask.query_async(&mut connection).await?;
        let version: String = server.get("redis_version").unwrap_or_default();
        if major(&version) < 7 {
            return Err(LinkError::TooOld(version));
        }
        if replication.get::<String>("role").is_some_and(|role| role != "master") {
            return Err(LinkError::Replica);
        }
        let run: String = server.get("run_id").unwrap_or_default();
        let run = run.get(..RUN_DIGITS).unwrap_or(&run);
        let live = Arc::new(Live {
            connection,
            prefix: wire::prefix(&self.settings.namespace, run),
            started,
            clock: AtomicI64::new(clock_at(started, time)),
        });
        *slot.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&live);
        Ok(live)
    }
}

/// Told by the library when the connection ends, however idle it is.
fn on_disconnect(
    link: Weak<Link>,
    slot: Arc<RwLock<Weak<Live>>>,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static {
    move |push| {
        let live = slot.read().unwrap_or_else(PoisonError::into_inner).upgrade();
        if push.kind == PushKind::Disconnection
            && let (Some(link), Some(live)) = (link.upgrade(), live)
        {
            link.lose(&live);
        }
        Ok(())
    }
}

/// The server's clock at `started`, from what it said just now. It said so before now, hence never too late.
fn clock_at(started: Instant, (seconds, micros): (i64, i64)) -> i64 {
    let since = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1000).saturating_add(micros / 1000).saturating_sub(since)
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
}
