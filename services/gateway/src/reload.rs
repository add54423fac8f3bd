//! Live reload: the file is read again, checked whole, and put into force at once or not at all.

mod file;
mod restart;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};
use weft_runtime::{Scope, config::Origin};

use crate::{certificates::Certificates, config::Config, error::Error, table::Tables};
use file::File;
use restart::needs_restart;

/// Who asked for a reload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// The file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// `ReloadConfig`.
    Call,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "the file has changed",
            Self::Signal => "SIGHUP",
            Self::Call => "ReloadConfig",
        })
    }
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A new table is in force.
    Applied,
    /// Nothing has changed that can change live.
    Unchanged,
    /// The table before it stays in force.
    Rejected,
}

/// The configuration after a reload.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) version: u64,
    pub(crate) outcome: Outcome,
    pub(crate) problems: Vec<String>,
    pub(crate) needs_restart: Vec<String>,
}

fn is_loopback(address: &str) -> bool {
    address.parse().is_ok_and(|address: SocketAddr| address.ip().is_loopback())
}

/// Reloads the configuration of a running gateway.
pub(crate) struct Reloader {
    tables: Arc<Tables>,
    certificates: Arc<Certificates>,
    /// As the process was started with.
    started: Config,
    scope: Scope,
    /// One reload at a time.
    turn: Mutex<()>,
    /// What the log says of the last one, if it was rejected.
    told: std::sync::Mutex<Option<Vec<String>>>,
}

impl Reloader {
    pub(crate) fn new(
        started: Config,
        tables: Arc<Tables>,
        certificates: Arc<Certificates>,
        scope: Scope,
    ) -> Arc<Self> {
        Arc::new(Self {
            tables,
            certificates,
            started,
            scope,
            turn: Mutex::new(()),
            told: std::sync::Mutex::default(),
        })
    }

    /// Reloads at SIGHUP and when the file has changed, until draining.
    pub(crate) fn start(self: &Arc<Self>) {
        if let Some(origin) = &self.started.origin {
            self.scope.tasks.spawn(Arc::clone(self).follow(origin.clone()));
        }
    }

    async fn follow(self: Arc<Self>, origin: Origin<Config>) {
        let mut file = File::new(origin.path(), &self.scope.tasks);
        let mut ticks = interval(self.started.reload.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was rejected is tried again: files that it names may not have been there yet.
        let mut rejected = false;
        loop {
            let cause = tokio::select! {
                () = self.scope.draining.cancelled() => return,
                () = self.scope.reload.notified() => Some(Cause::Signal),
                _ = ticks.tick() => (file.has_changed().await || rejected).then_some(Cause::File),
            };
            if let Some(cause) = cause {
                // Its failure is told where it is consumed: in the log.
                let report = self.reload(cause).await;
                rejected = report.is_ok_and(|report| report.outcome == Outcome::Rejected);
            }
        }
    }

    /// Reads the file and puts it into force.
    ///
    /// # Errors
    /// Without a file. One that cannot be used is reported, not an error: the gateway goes on as it was.
    pub(crate) async fn reload(self: &Arc<Self>, cause: Cause) -> Result<Report, Error> {
        let origin = self.started.origin.clone().ok_or(Error::NoConfigFile)?;
        let this = Arc::clone(self);
        // On a task of its own: whoever asked may go away, and half of a reload must not be in force.
        let taken = self.scope.tasks.spawn(async move { this.take(origin, cause).await }).await;
        Ok(taken.unwrap_or_else(|error| self.rejected(vec![error.to_string()], cause)))
    }

    async fn take(&self, origin: Origin<Config>, cause: Cause) -> Report {
        let _turn = self.turn.lock().await;
        let certificates = Arc::clone(&self.certificates);
        let read = move || {
            certificates.refresh();
            origin.read()
        };
        match self.scope.tasks.spawn_blocking(read).await {
            Ok(Ok(config)) => {
                let unfit = self.unfit(&config);
                if !unfit.is_empty() {
                    return self.rejected(unfit, cause);
                }
                let mut report = self.apply(&config, cause).await;
                // Whoever is told that keys are in force, or in force no more, can rely on it.
                let auth = Arc::clone(self.tables.load().auth());
                report.problems.extend(auth.refresh().await);
                report
            }
            Ok(Err(error)) => self.rejected(error.problems, cause),
            Err(error) => self.rejected(vec![error.to_string()], cause),
        }
    }

    /// What a configuration asks of a gateway that was started as this one was, and that needs another start.
    fn unfit(&self, config: &Config) -> Vec<String> {
        let started = &self.started;
        let listeners = started.listeners.iter().map(|listener| &listener.address);
        let mut addresses = listeners.chain([&started.admin.address]);
        let is_exposed = addresses.any(|address| !is_loopback(address)) && !started.lifecycle.insecure;
        let has_audience = config.pools.iter().any(|pool| config.audience(pool).is_some());
        let mut problems = Vec::new();
        if is_exposed && !config.auth.is_configured() {
            problems.push("auth: cannot go while other addresses than loopback are listened on".to_owned());
        }
        if config.auth.is_configured() && has_audience && self.scope.signer.is_none() {
            problems.push("auth: needs identity.key from the start, for what services are told".to_owned());
        }
        problems
    }

    fn rejected(&self, problems: Vec<String>, cause: Cause) -> Report {
        let version = self.tables.load().version;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(problems.clone());
        if told.as_ref() != Some(&problems) {
            tracing::warn!(%cause, version, problems = problems.join("; "), "configuration rejected, the one in force stays");
        }
        Report { version, outcome: Outcome::Rejected, problems, needs_restart: Vec::new() }
    }

    async fn apply(&self, config: &Config, cause: Cause) -> Report {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (table, new) = self.tables.apply(config, &self.scope).await;
        let (version, needs_restart) = (table.version, needs_restart(&self.started, config));
        if new {
            tracing::info!(%cause, version, "configuration reloaded");
        }
        if !needs_restart.is_empty() {
            tracing::warn!(%cause, keys = needs_restart.join(", "), "these take effect at a restart only");
        }
        let outcome = if new { Outcome::Applied } else { Outcome::Unchanged };
        Report { version, outcome, problems: Vec::new(), needs_restart }
    }
}
