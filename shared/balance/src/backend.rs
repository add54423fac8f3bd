//! One backend: its address, its weight and its live counters.

mod change;
pub(crate) mod flags;
mod pick;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use self::flags::{DRAINING, EJECTED, FOREIGN, Flags, REFUSED, SLOW};
use crate::{
    clock::{Epoch, Moment},
    foreign::Foreign,
    health::{Health, HealthMachine, Thresholds},
    outlier::{self, Detector},
    policy::peak_ewma::Latency,
};

/// How long a pool begins, for its founders to come up.
const FOUNDING_NANOS: u64 = 30_000_000_000;
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

/// A backend as configuration or discovery wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// `host:port`.
    pub address: String,
    /// 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// Its priority: calls go to the lowest tier that is well. 0 for most.
    pub tier: u8,
    /// Where it comes from.
    pub origin: Origin,
}

/// How a call ended, as far as the backend is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Success,
    /// The transport failed, or it answered with a status that counts as a failure.
    Failure,
}

/// Whether a backend is ejected: taken out because calls to it failed, whatever its checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// It is not.
    None,
    /// It gets no calls.
    Ejected,
    /// Its time is over: it gets one call at a time until one succeeds.
    HalfOpen,
}

/// One backend of a pool, shared by everything that picks it, probes it or shows it. [`Backends`](crate::Backends)
/// makes them.
#[derive(Debug)]
pub struct Backend {
    hot: Hot,
    address: String,
    origin: Origin,
    epoch: Epoch,
    hash: u64,
    /// Its weight was set at run time.
    reweighted: AtomicBool,
    suspected: AtomicBool,
    /// There when the pool began, and not found to be well yet.
    founding: AtomicBool,
    /// When its ejection ends.
    ejected_until: AtomicU64,
    /// Until when the call that probes it after an ejection keeps others away; 0 if none does.
    probed_until: AtomicU64,
    /// When its slow start began; 0 while nobody has noted the time.
    slow_since: AtomicU64,
    foreign: Foreign,
    failures: AtomicU64,
    /// When an answer of it last began or ended well; 0 while none has.
    answered: AtomicU64,
    machine: Mutex<Machine>,
    detector: Mutex<Detector>,
}

/// What every pick reads, on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Hot {
    in_flight: AtomicU64,
    flags: AtomicU32,
    weight: AtomicU32,
    calls: AtomicU64,
    latency: Latency,
    /// Its place in the round, with [`Policy::RoundRobin`](crate::Policy::RoundRobin).
    pass: AtomicU64,
    tier: AtomicU8,
}

#[derive(Debug)]
struct Machine {
    health: HealthMachine,
    last_error: String,
    since: Option<Instant>,
}

impl Backend {
    /// A backend that no check has seen yet. The weight is brought into 1 to [`MAX_WEIGHT`].
    pub(crate) fn new(
        desired: &Desired,
        thresholds: Thresholds,
        outlier: outlier::Settings,
        epoch: Epoch,
        founding: bool,
    ) -> Self {
        let machine =
            Machine { health: HealthMachine::new(thresholds), last_error: String::new(), since: None };
        Self {
            hot: Hot {
                in_flight: AtomicU64::new(0),
                flags: AtomicU32::new(Health::Unknown as u32),
                weight: AtomicU32::new(desired.weight.clamp(1, MAX_WEIGHT)),
                calls: AtomicU64::new(0),
                latency: Latency::default(),
                pass: AtomicU64::new(0),
                tier: AtomicU8::new(desired.tier),
            },
            hash: crate::policy::rendezvous::hash(desired.address.as_bytes()),
            address: desired.address.clone(),
            origin: desired.origin,
            epoch,
            reweighted: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            founding: AtomicBool::new(founding),
            ejected_until: AtomicU64::new(0),
            probed_until: AtomicU64::new(0),
            slow_since: AtomicU64::new(0),
            foreign: Foreign::default(),
            failures: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            machine: Mutex::new(machine),
            detector: Mutex::new(Detector::new(outlier, epoch.start())),
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
        self.hot.weight.load(Ordering::Relaxed)
    }

    /// Its priority, lowest first.
    #[must_use]
    pub fn tier(&self) -> u8 {
        self.hot.tier.load(Ordering::Relaxed)
    }

    /// Whether an operator has changed its weight, or drains it.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.reweighted.load(Ordering::Relaxed) || self.draining()
    }

    /// Whether it is drained.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.flags().has(DRAINING)
    }

    /// Its health as of the last check.
    #[must_use]
    pub fn health(&self) -> Health {
        self.flags().health()
    }

    /// Calls whose guard is alive.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.hot.in_flight.load(Ordering::Relaxed)
    }

    /// Calls given to it so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.hot.calls.load(Ordering::Relaxed)
    }

    /// Calls that it failed so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Calls that others have in flight to it: what is left of its last report.
    #[must_use]
    pub fn foreign(&self, now: Instant) -> f64 {
        self.foreign_at(self.epoch.moment(now))
    }

    /// The peak-sensitive average of its time to first byte; `None` before the first sample.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        self.hot.latency.average(self.epoch.moment(now))
    }

    /// Whether it is ejected, and whether that is over.
    #[must_use]
    pub fn ejection(&self, now: Instant) -> Ejection {
        if !self.flags().has(EJECTED) {
            Ejection::None
        } else if self.ejection_ended(self.epoch.moment(now)).is_some() {
            Ejection::HalfOpen
        } else {
            Ejection::Ejected
        }
    }

    /// Whether it gets no calls because it is ejected. A half-open backend gets some.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.ejection(now) == Ejection::Ejected
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

    /// Takes it out of rotation at once, until a check passes: a connection to it failed. It is not even picked in a
    /// panic.
    pub fn mark_down(&self, reason: &str, now: Instant) -> Option<Health> {
        let mut machine = self.machine();
        reason.clone_into(&mut machine.last_error);
        let change = machine.health.mark_down();
        self.set(REFUSED, true);
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

    /// Takes it out of rotation until then, whatever its checks say; after that it is
    /// [half-open](Ejection::HalfOpen). Again, it moves the end.
    pub fn eject_until(&self, until: Instant) {
        self.ejected_until.store(self.epoch.moment(until).0, Ordering::Release);
        self.set(EJECTED, true);
    }

    /// Ends its ejection; it returns by slow start.
    pub fn readmit(&self, now: Instant) {
        if self.set(EJECTED, false) {
            self.begin_slow_start(self.epoch.moment(now));
        }
    }

    /// Takes the backend's own count of the calls it has in flight. What is above ours is foreign load, which counts
    /// like our own and fades over 10 s in a straight line.
    pub fn report_load(&self, reported_in_flight: u64, now: Instant) {
        let foreign = reported_in_flight.saturating_sub(self.in_flight());
        self.foreign.report(foreign, self.epoch.moment(now));
        if !self.flags().has(FOREIGN) {
            self.set(FOREIGN, true);
        }
    }

    fn publish(&self, machine: &mut Machine, change: Option<Health>, now: Instant) -> Option<Health> {
        let health = change?;
        let judged_before = machine.since.replace(now).is_some();
        if health == Health::Healthy {
            machine.last_error.clear();
            self.set(REFUSED, false);
            // One that was not up yet when the pool was is no return either.
            let starting = !judged_before || self.epoch.moment(now).0 <= FOUNDING_NANOS;
            let founder = self.founding.swap(false, Ordering::Relaxed);
            if !(founder && starting) {
                self.begin_slow_start(self.epoch.moment(now));
            }
        }
        let with_health = |flags| Some(Flags(flags).with_health(health).0);
        let _ = self.hot.flags.fetch_update(Ordering::Release, Ordering::Relaxed, with_health);
        Some(health)
    }

    fn forget_health(&self) {
        let mut machine = self.machine();
        machine.health.forget();
        machine.last_error.clear();
        let unknown = |flags| Some(Flags(flags).with_health(Health::Unknown).0);
        let _ = self.hot.flags.fetch_update(Ordering::Release, Ordering::Relaxed, unknown);
    }

    fn begin_slow_start(&self, at: Moment) {
        self.slow_since.store(at.0, Ordering::Relaxed);
        self.set(SLOW, true);
    }

    pub(crate) fn configure_thresholds(&self, thresholds: Thresholds) {
        self.machine().health.configure(thresholds);
    }

    /// What judges it by how its calls end.
    pub(crate) fn detector(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A panic cannot leave the machine half-changed: its methods only assign.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
