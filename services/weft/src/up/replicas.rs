//! The replicas of one service: processes of this program, each started again when it ends.
//!
//! A replica is `weft serve --supervised <service>`. Over its stdin it gets its configuration, whose secrets so stand
//! neither on a disk nor on a command line; the end of stdin tells it to stop, whether this process asked for that or
//! was killed. Over its stdout it says whether it is ready. What it logs comes out of this process's stderr under its
//! name. It keeps its address over all its lives, so that nobody who calls it has to be told.

mod lines;
mod logs;
mod process;
mod restarts;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::bail;
use futures::future::join_all;
use tokio::{sync::watch, time::sleep};
use toml::{Table, Value};
use weft_runtime::{
    Scope,
    config::{Lifecycle, LogFormat},
};

use super::{plan::set, ports::Reserved};
use process::{Death, live};
use restarts::{Restarts, Verdict};

/// What a replica may take to stop beyond its drain: hard stop, telemetry.
const STOP_SLACK: Duration = Duration::from_secs(8);

/// The two addresses of a replica.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: Reserved,
    pub(super) admin: Reserved,
}

/// What all replicas of a service have alike.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) service: &'static str,
    /// Everything but the addresses.
    pub(super) configuration: Table,
    pub(super) lifecycle: Lifecycle,
    pub(super) log_format: LogFormat,
}

/// One replica, for all its lives.
#[derive(Debug)]
struct Spec {
    /// `database-2`
    name: String,
    service: &'static str,
    /// TOML.
    configuration: String,
    log_format: LogFormat,
    stop_limit: Duration,
    _place: Place,
}

/// What is known of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Up { pid: u32, ready: Result<(), String> },
    Down { why: String },
}

/// What one replica is called, where it is, and how it is.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    state: watch::Receiver<State>,
}

/// All replicas of a service. Dropped without [`stop`](Self::stop) they end with the runtime.
#[derive(Debug)]
pub(super) struct Replicas {
    pub(super) service: &'static str,
    pub(super) list: Vec<Replica>,
    scope: Scope,
}

impl Replicas {
    /// Starts one at each place. They serve when this returns, ready or not.
    ///
    /// # Errors
    /// When one of them ends before it serves, with what it said last. None is left running then.
    pub(super) async fn start(launch: Launch, places: Vec<Place>) -> anyhow::Result<Self> {
        let mut replicas = Self { service: launch.service, list: Vec::new(), scope: Scope::default() };
        for (index, place) in places.into_iter().enumerate() {
            let address = place.address.address;
            let spec = launch.spec(index + 1, place)?;
            let (sender, state) = watch::channel(State::Starting);
            replicas.list.push(Replica { name: spec.name.clone(), address, state });
            replicas.scope.tasks.spawn(keep(spec, sender, replicas.scope.clone()));
        }
        let begun = join_all(replicas.list.iter().map(Replica::begun)).await;
        let failed: Vec<String> = begun.into_iter().filter_map(Result::err).collect();
        if !failed.is_empty() {
            replicas.stop().await;
            bail!("{}", failed.join("; "));
        }
        Ok(replicas)
    }

    /// Returns when all are ready.
    pub(super) async fn wait_ready(&self) {
        join_all(self.list.iter().map(Replica::wait_ready)).await;
    }

    /// Lets them all drain, and returns when the last of them has ended, by force if it takes too long.
    pub(super) async fn stop(self) {
        self.scope.draining.cancel();
        self.scope.tasks.close();
        self.scope.tasks.wait().await;
    }
}

impl Replica {
    /// The id of its process; `None` while there is none that serves.
    pub(super) fn pid(&self) -> Option<u32> {
        match *self.state.borrow() {
            State::Up { pid, .. } => Some(pid),
            State::Starting | State::Down { .. } => None,
        }
    }

    /// Whether it can do its work.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn ready(&self) -> Result<(), String> {
        match &*self.state.borrow() {
            State::Starting => Err("starting".to_owned()),
            State::Up { ready, .. } => ready.clone(),
            State::Down { why } => Err(why.clone()),
        }
    }

    /// Returns when it serves.
    async fn begun(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state != State::Starting).await.as_deref() {
            Ok(State::Down { why }) => Err(format!("{} {why}", self.name)),
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{} is not looked after", self.name)),
        }
    }

    async fn wait_ready(&self) {
        let ready = |state: &State| matches!(state, State::Up { ready: Ok(()), .. });
        let _ = self.state.clone().wait_for(ready).await;
    }
}

impl Launch {
    fn spec(&self, number: usize, place: Place) -> anyhow::Result<Spec> {
        let mut table = self.configuration.clone();
        table.insert("address".to_owned(), Value::from(place.address.address.to_string()));
        set(&mut table, "admin", "address", Value::from(place.admin.address.to_string()));
        Ok(Spec {
            name: format!("{}-{number}", self.service),
            service: self.service,
            configuration: toml::to_string(&table)?,
            log_format: self.log_format,
            stop_limit: self.lifecycle.drain_delay + self.lifecycle.drain_timeout + STOP_SLACK,
            _place: place,
        })
    }
}

/// Keeps one replica alive until draining. One that has never served is given up: its configuration or its machine is
/// wrong, and somebody waits to hear so.
async fn keep(spec: Spec, state: watch::Sender<State>, scope: Scope) {
    let mut restarts = Restarts::default();
    let mut has_served = false;
    loop {
        let started = Instant::now();
        let Some(death) = live(&spec, &state, &scope).await else { return };
        has_served |= death.served;
        state.send_replace(State::Down { why: death.to_string() });
        if !has_served {
            return;
        }
        let verdict = restarts.died(started, Instant::now(), death.served);
        report(&spec.name, &death, verdict);
        tokio::select! {
            () = sleep(verdict.wait) => {}
            () = scope.draining.cancelled() => return,
        }
    }
}

fn report(replica: &str, death: &Death, verdict: Verdict) {
    let (pid, next_start_in) = (death.pid, verdict.wait);
    if verdict.hopeless {
        tracing::error!(replica, pid, ?next_start_in, "keeps dying at start, and now {death}");
    } else {
        tracing::warn!(replica, pid, ?next_start_in, "{death}");
    }
}
