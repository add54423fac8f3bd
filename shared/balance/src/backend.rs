//! One backend: its address, its weight and its live counters.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::health::{Health, HealthMachine, Thresholds};

/// The largest weight.
pub const MAX_WEIGHT: u32 = 1000;

/// Where a backend came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The configuration.
    Config,
    /// Found behind a configured name by discovery.
    Discovered,
    /// Added at run time.
    Added,
}

/// How a call ended, as far as the backend is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// The transport failed, or it answered with a status that counts as a failure.
    Failure,
}

/// One backend of a pool, shared by everything that picks it, probes it or shows it.
#[derive(Debug)]
pub struct Backend {
    address: String,
    origin: Origin,
    weight: AtomicU32,
    changed: AtomicBool,
    draining: AtomicBool,
    suspected: AtomicBool,
    health: AtomicU8,
    machine: Mutex<Machine>,
    pub(crate) in_flight: AtomicU64,
    calls: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Machine {
    health: HealthMachine,
    last_error: String,
    since: Option<Instant>,
}

impl Backend {
    /// A backend that no check has seen yet. The weight is brought into 1 to [`MAX_WEIGHT`].
    #[must_use]
    pub fn new(address: impl Into<String>, weight: u32, origin: Origin, thresholds: Thresholds) -> Self {
        let machine =
            Machine { health: HealthMachine::new(thresholds), last_error: String::new(), since: None };
        Self {
            address: address.into(),
            origin,
            weight: AtomicU32::new(weight.clamp(1, MAX_WEIGHT)),
            changed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            health: AtomicU8::new(Health::Unknown as u8),
            machine: Mutex::new(machine),
            in_flight: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it came from.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// Its share of the calls, relative to the others.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Whether its weight or drain state was changed at run time.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Whether it is drained.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Its health as of the last check.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::from_u8(self.health.load(Ordering::Acquire))
    }

    /// Calls whose guard is alive.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls given to it so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls that it failed so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Why it is unhealthy, in words; empty when it is not.
    #[must_use]
    pub fn last_error(&self) -> String {
        self.machine().last_error.clone()
    }

    /// When its health last changed.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.machine().since
    }

    /// Takes the result of a check. Returns the new health if it changed.
    pub fn checked(&self, result: Result<(), String>, now: Instant) -> Option<Health> {
        let mut machine = self.machine();
        let change = match result {
            Ok(()) => machine.health.passed(),
            Err(reason) => {
                machine.last_error = reason;
                machine.health.failed()
            }
        };
        self.publish(&mut machine, change, now)
    }

    /// Takes it out of rotation at once, until a check passes: a connection to it failed.
    pub fn mark_down(&self, reason: &str, now: Instant) -> Option<Health> {
        let mut machine = self.machine();
        reason.clone_into(&mut machine.last_error);
        let change = machine.health.mark_down();
        self.publish(&mut machine, change, now)
    }

    /// Notes that something about it is odd, such as a connection it closed: it is to be checked now.
    pub fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }

    /// Whether it was suspected since the last call of this.
    #[must_use]
    pub fn take_suspicion(&self) -> bool {
        self.suspected.swap(false, Ordering::Relaxed)
    }

    /// Puts it into rotation without a check, for pools that check nothing.
    pub fn assume_healthy(&self, now: Instant) -> Option<Health> {
        let mut machine = self.machine();
        let change = machine.health.assume_healthy();
        self.publish(&mut machine, change, now)
    }

    fn publish(&self, machine: &mut Machine, change: Option<Health>, now: Instant) -> Option<Health> {
        let health = change?;
        machine.since = Some(now);
        if health == Health::Healthy {
            machine.last_error.clear();
        }
        self.health.store(health as u8, Ordering::Release);
        Some(health)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight.clamp(1, MAX_WEIGHT), Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn configure_weight(&self, weight: u32) {
        if !self.changed() {
            self.weight.store(weight.clamp(1, MAX_WEIGHT), Ordering::Relaxed);
        }
    }

    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    // A panic cannot leave the machine half-changed: its methods only assign.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in flight to a backend: counted from the pick until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    backend: Arc<Backend>,
}

impl InFlight {
    /// Wraps a reservation that has been counted already.
    pub(crate) const fn reserved(backend: Arc<Backend>) -> Self {
        Self { backend }
    }

    /// The picked backend.
    #[must_use]
    pub const fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Records how the call ended, apart from ending it.
    pub fn record(&self, outcome: Outcome) {
        if outcome == Outcome::Failure {
            self.backend.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.backend.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
