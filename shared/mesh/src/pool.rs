//! A named set of interchangeable backends, shared by the whole process: who is there, how loaded, how well.

mod tally;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};
use weft_balance::{
    Backend, Backends, InFlight, Thresholds,
    retry::{self, Budget},
    verdict::{Cause, Verdict},
};

pub use tally::Tally;
pub(crate) use tally::count;

use crate::{error::MeshError, lease::Lease, probe::Check};

/// What a pool's backends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// Everything about a pool but its backends.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For people, metrics and errors.
    pub name: String,
    /// What the backends speak.
    pub protocol: Protocol,
    /// What a health check does.
    pub check: Check,
    /// How often a healthy backend is checked.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// How many results in a row change a backend's health.
    pub thresholds: Thresholds,
    /// When a call is sent again.
    pub retry: retry::Policy,
}

/// The backends of a pool and what is known of them, shared by all threads.
#[derive(Debug)]
pub struct Pool {
    /// As configured.
    pub settings: Settings,
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
}

impl Pool {
    /// A pool without backends yet.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let backends = Backends::new(settings.thresholds);
        let (disturbed, resolved) = (Notify::new(), watch::Sender::new(false));
        Arc::new(Self {
            settings,
            backends,
            disturbed,
            resolved,
            budget: Budget::default(),
            tally: Tally::default(),
        })
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Tells the probes that the list of backends changed.
    pub fn changed(&self) {
        self.disturbed.notify_waiters();
    }

    /// A connection to a backend ended: it may be gone, so it is checked now instead of at the next interval.
    pub(crate) fn suspect(&self, address: &str) {
        if let Some(backend) = self.backends.get(address) {
            backend.suspect();
            self.disturbed.notify_waiters();
        }
    }

    /// Takes the verdict on an attempt.
    pub(crate) fn observe(&self, call: &InFlight, verdict: &Verdict, now: Instant) {
        self.tally.ended(verdict);
        let refused =
            matches!(verdict.cause, Cause::ConnectFailed | Cause::ConnectTimeout | Cause::RefusedStream);
        if refused {
            self.mark_down(call.backend(), verdict.cause.label(), now);
        }
    }

    fn mark_down(&self, backend: &Backend, reason: &str, now: Instant) {
        if backend.mark_down(reason, now).is_some() {
            tracing::warn!(pool = self.name(), backend = backend.address(), reason, "backend is down");
            self.disturbed.notify_waiters();
        }
    }

    /// Picks the backend for a call, leaving out those it has tried.
    pub(crate) async fn lease(self: &Arc<Self>, tried: &[Arc<Backend>]) -> Result<Lease, MeshError> {
        if let Some(call) = self.backends.pick(tried) {
            return Ok(Lease::new(call, Arc::clone(self)));
        }
        if !*self.resolved.borrow() {
            // The caller's deadline bounds this wait, and discovery ends it either way.
            let _ = self.resolved.subscribe().wait_for(|resolved| *resolved).await;
        }
        let call = self.backends.pick(tried);
        call.map(|call| Lease::new(call, Arc::clone(self))).ok_or_else(|| {
            count(&self.tally.none_healthy);
            MeshError::NoHealthyBackends { pool: self.name().to_owned() }
        })
    }
}
