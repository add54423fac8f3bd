//! Knows whether the server is there: calls fail at once while it is not, and work again by themselves when it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, PgPool, postgres::PgConnectOptions};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use weft_mesh::context;

use super::{lives, migration::migrate};
use crate::{error::Error, repository::wait::caller_is_gone};

/// How long the server may take to let a connection in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks while nothing is amiss.
const PERIOD: Duration = Duration::from_secs(5);
/// Between two looks at most, however many callers doubt.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts at a server that is away: first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

pub(super) struct Supervisor {
    options: PgConnectOptions,
    health: watch::Sender<Result<(), String>>,
    doubted: Notify,
    started: Instant,
    /// When a connection last broke, in milliseconds since the start; 0 when none did.
    broke_at: AtomicU64,
}

impl Supervisor {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            health: watch::Sender::new(Err(weft_runtime::STARTING.to_owned())),
            doubted: Notify::new(),
            started: Instant::now(),
            broke_at: AtomicU64::new(0),
        }
    }

    pub(super) fn health(&self) -> watch::Receiver<Result<(), String>> {
        self.health.subscribe()
    }

    /// Somebody has reason to believe that the server is away.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// A connection broke: the others that are as old are suspects.
    pub(super) fn broke(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.broke_at.fetch_max(now.max(1), Relaxed);
        self.doubt();
    }

    /// Whether a connection broke since one of this age was opened.
    pub(super) fn broke_since(&self, age: Duration) -> bool {
        let opened = self.started.elapsed().saturating_sub(age);
        u128::from(self.broke_at.load(Relaxed)) >= opened.as_millis().max(1)
    }

    /// Until the service drains.
    pub(super) async fn run(self: Arc<Self>, pool: PgPool, draining: CancellationToken) {
        let watching = async {
            loop {
                self.reach_server().await;
                self.watch_server(&pool).await;
            }
        };
        draining.run_until_cancelled(watching).await;
    }

    /// Until the server is there and its tables are up to date.
    async fn reach_server(&self) {
        let mut pause = RETRY.0;
        while let Err(reason) = migrate(&self.options).await {
            self.away(&reason);
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(RETRY.1);
        }
        self.set(Ok(()));
        tracing::info!(host = self.options.get_host(), port = self.options.get_port(), "postgres is ready");
    }

    /// Until the server is away.
    async fn watch_server(&self, pool: &PgPool) {
        loop {
            let look = tokio::time::timeout(PERIOD, self.doubted.notified()).await;
            let idle = if look.is_err() { pool.try_acquire() } else { None };
            if let Some(mut idle) = idle
                && lives(&mut idle).await.unwrap_or(false)
            {
                continue;
            }
            if let Err(reason) = self.knock().await {
                self.broke();
                self.away(&reason);
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the server lets a new connection in.
    async fn knock(&self) -> Result<(), String> {
        /// `too_many_connections`: it is there.
        const FULL: &str = "53300";
        let knock = async {
            let mut connection = self.options.connect().await?;
            connection.ping().await?;
            connection.close().await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, knock).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let code = error.as_database_error().and_then(|error| error.code());
                if code.as_deref() == Some(FULL) { Ok(()) } else { Err(error.to_string()) }
            }
            Err(_) => Err("does not answer".to_owned()),
        }
    }

    fn away(&self, reason: &str) {
        if self.set(Err(reason.to_owned())) {
            tracing::warn!(reason, "postgres is away");
        }
    }

    /// Whether that is news.
    fn set(&self, state: Result<(), String>) -> bool {
        self.health.send_if_modified(|health| {
            let news = *health != state;
            *health = state;
            news
        })
    }

    /// Waits for the server as long as the caller waits, and not longer than `limit`.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if let Ok(answered) = tokio::time::timeout(context::remaining(limit), answer).await {
            return answered;
        }
        self.doubt();
        if caller_is_gone() {
            return Err(Error::DeadlineExceeded);
        }
        Err(Error::Unavailable { server: "postgres", reason: "does not answer".to_owned() })
    }
}

/// Waits until the server is away; says why.
pub(super) async fn down(health: &mut watch::Receiver<Result<(), String>>) -> String {
    let gone = health.wait_for(Result::is_err).await;
    let reason = gone.ok().and_then(|health| health.as_ref().err().cloned());
    reason.unwrap_or_else(|| "the service is stopping".to_owned())
}
