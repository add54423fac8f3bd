//! A named set of interchangeable backends, shared by the whole process: who is there, how loaded, how well.

mod room;
mod tally;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};
use weft_balance::{
    Ask, Backend, Backends, InFlight, Observed, Refusal, Thresholds,
    retry::{self, Budget},
    verdict::{Cause, Verdict},
};

use self::room::Room;
pub use self::tally::Tally;
pub(crate) use self::tally::count;
use crate::{
    error::MeshError, lease::Lease, methods::Methods, metrics::Calls, probe::Check, replay::Progress,
    terms::Terms, tls::ClientTls,
};

/// What a pool's backends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge.
    Grpc,
    /// HTTP/1.1.
    Http,
}

impl Protocol {
    /// Its name where TLS negotiates one.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Grpc => b"h2",
            Self::Http => b"http/1.1",
        }
    }
}

/// Everything about a pool but its backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// For people, metrics and errors.
    pub name: String,
    /// What the backends speak.
    pub protocol: Protocol,
    /// How connections are secured; `None` for not at all.
    pub tls: Option<Arc<ClientTls>>,
    /// What a health check does.
    pub check: Check,
    /// What a health check addresses the backend by (`:authority`, `Host`); the backend's own address if `None`.
    pub authority: Option<String>,
    /// How often a healthy backend is checked.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// After how much silence an HTTP/2 connection is tried with a PING, while calls are in flight on it; `None` for
    /// never. gRPC's own servers end connections with more than one in five minutes (gRFC A8).
    pub ping_interval: Option<Duration>,
    /// How many results in a row change a backend's health.
    pub thresholds: Thresholds,
    /// How calls are spread over the backends.
    pub balance: weft_balance::Settings,
    /// When a call is sent again.
    pub retry: retry::Policy,
    /// How many calls may be under way a second time.
    pub budget: BudgetLimits,
    /// How calls wait for a backend with room.
    pub waiting: Waiting,
}

/// The limits of a retry budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Of the calls in flight. Default 20.
    pub percent: u32,
    /// In any case. Default 3.
    pub least: u32,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self { percent: 20, least: 3 }
    }
}

/// How calls wait when every healthy backend has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Calls that may wait; further ones are refused. Default 128.
    pub limit: usize,
    /// How long each may. Default 3 s, as linkerd's failfast.
    pub time: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { limit: 128, time: Duration::from_secs(3) }
    }
}

impl Settings {
    /// The defaults, for a pool of that name and protocol whose backends are checked so.
    #[must_use]
    pub fn new(name: &str, protocol: Protocol, check: Check) -> Self {
        Self {
            name: name.to_owned(),
            protocol,
            tls: None,
            check,
            authority: None,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            ping_interval: None,
            thresholds: Thresholds::default(),
            balance: weft_balance::Settings::default(),
            retry: retry::Policy::default(),
            budget: BudgetLimits::default(),
            waiting: Waiting::default(),
        }
    }
}

/// The backends of a pool and what is known of them, shared by all threads.
#[derive(Debug)]
pub struct Pool {
    name: String,
    settings: ArcSwap<Settings>,
    /// What backends are called, by address, for TLS.
    names: ArcSwap<HashMap<String, String>>,
    /// Who is there, and how loaded.
    pub backends: Backends,
    /// Wakes the probes: the list changed, or a backend was marked down.
    pub(crate) disturbed: Notify,
    /// False until every configured name has been resolved once.
    pub(crate) resolved: watch::Sender<bool>,
    /// How many calls may be under way a second time.
    pub budget: Budget,
    /// What is counted of its attempts.
    pub tally: Tally,
    /// What is measured of them.
    pub(crate) attempts: Calls,
    room: Room,
}

impl Pool {
    /// A pool without backends yet. Calls of `methods` are measured by their names.
    #[must_use]
    pub fn new(settings: Settings, methods: &Methods) -> Arc<Self> {
        Arc::new(Self {
            attempts: Calls::attempts(&settings.name, methods),
            backends: Backends::new(settings.thresholds, settings.balance, Instant::now()),
            disturbed: Notify::new(),
            resolved: watch::Sender::new(false),
            budget: Budget::new(settings.budget.percent, settings.budget.least),
            tally: Tally::default(),
            room: Room::new(settings.waiting),
            name: settings.name.clone(),
            names: ArcSwap::default(),
            settings: ArcSwap::from_pointee(settings),
        })
    }

    /// Notes what backends are called, by address.
    pub(crate) fn name_backends(&self, names: HashMap<String, String>) {
        if **self.names.load() != names {
            self.names.store(Arc::new(names));
        }
    }

    /// What a backend is called where that matters: the host that was resolved to its address, or the address's own.
    pub(crate) fn host_of(&self, address: &str) -> String {
        let own = || address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned();
        self.names.load().get(address).cloned().unwrap_or_else(own)
    }

    /// The settings in force: for a look, not to be kept.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Takes other settings, but for the name. Backends keep their health and counters, calls what they have begun with,
    /// an [`Upstream`](crate::upstream::Upstream) the protocol that it was made with.
    pub fn configure(&self, settings: Settings) {
        self.backends.configure_thresholds(settings.thresholds);
        self.backends.configure(settings.balance, Instant::now());
        self.budget.configure(settings.budget.percent, settings.budget.least);
        self.room.configure(settings.waiting);
        self.settings.store(Arc::new(settings));
        self.changed();
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls that wait for a backend with room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.room.waiting()
    }

    /// Tells the probes that the list of backends changed.
    pub fn changed(&self) {
        self.disturbed.notify_waiters();
        self.room.made(&self.backends);
    }

    /// A connection to a backend ended: it may be gone, so it is checked now instead of at the next interval.
    pub(crate) fn suspect(&self, address: &str) {
        if let Some(backend) = self.backends.get(address) {
            backend.suspect();
            self.disturbed.notify_waiters();
        }
    }

    /// A call is over: whoever waits may have its place.
    pub(crate) fn freed(&self) {
        self.room.made(&self.backends);
    }

    /// Takes the verdict on an attempt.
    pub(crate) fn observe(&self, call: &InFlight, verdict: &Verdict, now: Instant) {
        self.tally.ended(verdict);
        let backend = call.backend();
        if let Some(penalty) = verdict.penalty() {
            call.failed(penalty, now);
        }
        match verdict.cause {
            Cause::ConnectFailed | Cause::ConnectTimeout => {
                self.mark_down(backend, verdict.cause.label(), now);
            }
            // It may be about to stop, or only have enough to do.
            Cause::RefusedStream => self.suspect(backend.address()),
            _ => {}
        }
        match self.backends.observe(call, verdict, now, fastrand::u32(..)) {
            Observed::Ejected { trip, time } => {
                count(&self.tally.ejections);
                let reason = trip.map_or("its probe failed", |trip| trip.label());
                tracing::warn!(
                    pool = self.name(),
                    backend = backend.address(),
                    reason,
                    ?time,
                    "backend is ejected"
                );
            }
            Observed::TooMany(_) => count(&self.tally.ejections_overflow),
            Observed::Readmitted => {
                tracing::info!(
                    pool = self.name(),
                    backend = backend.address(),
                    "backend is back from ejection"
                );
            }
            Observed::Nothing => {}
        }
    }

    fn mark_down(&self, backend: &Backend, reason: &str, now: Instant) {
        if backend.mark_down(reason, now).is_some() {
            tracing::warn!(pool = self.name(), backend = backend.address(), reason, "backend is down");
            self.disturbed.notify_waiters();
        }
    }

    /// Picks the backend for a call, leaving out those it has tried; waits for room where all have none. `sent` tells how
    /// far the call's request has come.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        tried: &[Arc<Backend>],
        terms: &Terms,
        sent: Progress,
    ) -> Result<Lease, MeshError> {
        let mut picked = self.pick(tried, terms).await;
        if matches!(picked, Err(Refusal::NoneHealthy)) {
            if !*self.resolved.borrow() {
                // The caller's deadline bounds this wait, and discovery ends it either way.
                let _ = self.resolved.subscribe().wait_for(|resolved| *resolved).await;
            }
            // Better one that failed calls than none at all.
            self.backends.readmit_when_last(Instant::now());
            picked = self.pick(tried, terms).await;
        }
        match picked {
            Ok(call) => Ok(Lease::new(call, Arc::clone(self), terms, sent)),
            Err(Refusal::Full) => Err(MeshError::Overloaded),
            Err(Refusal::NoneHealthy) => Err(self.none_healthy()),
        }
    }

    async fn pick(&self, tried: &[Arc<Backend>], terms: &Terms) -> Result<InFlight, Refusal> {
        // Those who wait already come first.
        if !self.room.is_contended() {
            let picked = self.backends.pick(&Ask { tried, key: terms.key, now: Instant::now() });
            if !matches!(picked, Err(Refusal::Full)) {
                return picked;
            }
        }
        // Boxed, because it is large and rare, and each call has room for it otherwise.
        Box::pin(self.room.wait(&self.backends, tried, terms, &self.tally)).await
    }

    fn none_healthy(&self) -> MeshError {
        count(&self.tally.none_healthy);
        MeshError::NoHealthyBackends { pool: self.name().to_owned() }
    }
}
