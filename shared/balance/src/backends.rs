//! The backends of a pool: one list, swapped as a whole, whose counters survive the swap.

mod ejection;
pub(crate) mod list;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

pub use self::ejection::Observed;
use self::list::List;
use crate::{
    backend::{Backend, Desired, MAX_WEIGHT, Origin},
    clock::Epoch,
    contest::Contest,
    eligibility::{Ask, Refusal, Rules},
    health::Thresholds,
    in_flight::InFlight,
    recorder::{PickRecord, Recorder},
    settings::Settings,
};

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The pool has that backend already.
    #[error("backend {0} exists already")]
    Exists(String),
    /// The pool has no such backend.
    #[error("no backend {0}")]
    Unknown(String),
    /// The weight is out of range.
    #[error("weight {0} is not within 1 to {MAX_WEIGHT}")]
    Weight(u32),
}

/// The backends of a pool, shared by all threads.
#[derive(Debug)]
pub struct Backends {
    thresholds: Mutex<Thresholds>,
    epoch: Epoch,
    list: RwLock<Arc<List>>,
    changes: Mutex<Changes>,
    ticket: AtomicU64,
    recorder: Recorder,
}

/// What only changes of the list need. Held while one is made.
#[derive(Debug, Default)]
struct Changes {
    /// Addresses removed at run time, which configuration and discovery do not bring back.
    removed: Vec<String>,
    /// Backends that went with calls in flight; one that returns meanwhile has them still.
    gone: Vec<Weak<Backend>>,
    /// Whether there has been a list with somebody in it.
    begun: bool,
}

impl Changes {
    /// A backend that the list lacks: one that went with calls in flight, or a new one.
    fn comes(&self, desired: &Desired, new: impl FnOnce() -> Arc<Backend>) -> Arc<Backend> {
        let known = self
            .gone
            .iter()
            .filter_map(Weak::upgrade)
            .find(|backend| (backend.address(), backend.origin()) == (&*desired.address, desired.origin));
        let Some(known) = known else { return new() };
        known.comes_back(desired);
        known
    }

    /// Puts the next list in the place of this one.
    fn swap(&mut self, list: &mut Arc<List>, next: Arc<[Arc<Backend>]>) {
        let stays = |known: &Arc<Backend>| next.iter().any(|backend| Arc::ptr_eq(backend, known));
        self.gone.retain(|gone| gone.upgrade().is_some_and(|gone| !stays(&gone)));
        self.gone.extend(list.backends.iter().filter(|backend| !stays(backend)).map(Arc::downgrade));
        *list = List::new(next, list.settings, Some(list));
    }
}

impl Backends {
    /// An empty pool.
    #[must_use]
    pub fn new(thresholds: Thresholds, settings: Settings, now: Instant) -> Self {
        Self {
            thresholds: Mutex::new(thresholds),
            epoch: Epoch::new(now),
            list: RwLock::new(List::new(Arc::new([]), settings, None)),
            changes: Mutex::default(),
            ticket: AtomicU64::new(0),
            recorder: Recorder::new(settings.recorded_picks),
        }
    }

    /// The backends as of now.
    #[must_use]
    pub fn list(&self) -> Arc<[Arc<Backend>]> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner).backends)
    }

    /// The backend of that address.
    #[must_use]
    pub fn get(&self, address: &str) -> Option<Arc<Backend>> {
        self.list().iter().find(|backend| backend.address() == address).cloned()
    }

    /// How the pool balances.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.list.read().unwrap_or_else(PoisonError::into_inner).settings
    }

    /// Changes how the pool balances, for every pick that begins from now on. The size of the recorder stays.
    pub fn configure(&self, settings: Settings, now: Instant) {
        let mut list = self.write();
        *list = List::new(Arc::clone(&list.backends), settings, Some(&list));
        drop(list);
        for backend in self.list().iter() {
            backend.detector().configure(settings.outlier, now);
        }
    }

    /// Takes other thresholds, for the backends that are there and those to come.
    pub fn configure_thresholds(&self, thresholds: Thresholds) {
        *self.thresholds.lock().unwrap_or_else(PoisonError::into_inner) = thresholds;
        for backend in self.list().iter() {
            backend.configure_thresholds(thresholds);
        }
    }

    fn thresholds(&self) -> Thresholds {
        *self.thresholds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Picks the backend for a call: first who may take it, then by the pool's [`Policy`](crate::Policy). The call is in
    /// flight until the guard is dropped. Does not allocate, and waits only for a change of the list.
    ///
    /// # Errors
    /// [`Refusal::NoneHealthy`] when nobody may be picked who was not tried; [`Refusal::Full`] when only room is lacking.
    pub fn pick(&self, ask: &Ask<'_>) -> Result<InFlight, Refusal> {
        let ticket = self.ticket.fetch_add(1, Ordering::Relaxed);
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        // In slow start a key must not go one way and then the other.
        let lot = ask.key.unwrap_or(ticket);
        let rules = Rules::new(&list.settings, ask.tried, self.epoch.moment(ask.now), lot);
        let trace = self.recorder.trace(ticket, &list, ask.now, ask.tried.len());
        Contest::new(&list, rules, ask.now, ticket, trace).run(ask)
    }

    /// The last picks, newest first.
    #[must_use]
    pub fn recorded(&self) -> Vec<PickRecord> {
        self.recorder.recorded()
    }

    /// Makes the list what configuration and discovery want, keeping the counters, health and run-time changes of
    /// those that stay, and those added at run time.
    ///
    /// The backends of the first list that has any are the pool's founders: their first good check is no return, so
    /// that a restart of the gateway does not slow-start whoever happens to be checked last.
    pub fn reconcile(&self, desired: &[Desired]) {
        let mut changes = self.changes();
        let mut list = self.write();
        let mut next: Vec<Arc<Backend>> = Vec::with_capacity(desired.len());
        for want in desired {
            let known = next.iter().any(|backend| backend.address() == want.address);
            if known || changes.removed.contains(&want.address) {
                continue;
            }
            let stays = list.backends.iter().find(|backend| backend.address() == want.address);
            next.push(stays.map_or_else(
                || changes.comes(want, || self.new_backend(want, &list.settings, !changes.begun)),
                |backend| {
                    backend.configure(want);
                    Arc::clone(backend)
                },
            ));
        }
        for added in list.backends.iter().filter(|backend| backend.origin() == Origin::Added) {
            if !next.iter().any(|backend| backend.address() == added.address()) {
                next.push(Arc::clone(added));
            }
        }
        changes.begun |= !next.is_empty();
        changes.swap(&mut list, next.into());
    }

    fn new_backend(&self, desired: &Desired, settings: &Settings, founding: bool) -> Arc<Backend> {
        Arc::new(Backend::new(desired, self.thresholds(), settings.outlier, self.epoch, founding))
    }

    /// Adds a backend at run time, in tier 0.
    ///
    /// # Errors
    /// When it is there already or the weight is out of range.
    pub fn add(&self, address: &str, weight: u32) -> Result<Arc<Backend>, ChangeError> {
        check_weight(weight)?;
        let mut changes = self.changes();
        let mut list = self.write();
        if list.backends.iter().any(|backend| backend.address() == address) {
            return Err(ChangeError::Exists(address.to_owned()));
        }
        changes.removed.retain(|other| other != address);
        let desired = Desired { address: address.to_owned(), weight, tier: 0, origin: Origin::Added };
        let backend = changes.comes(&desired, || self.new_backend(&desired, &list.settings, false));
        let next = list.backends.iter().cloned().chain([Arc::clone(&backend)]).collect();
        changes.swap(&mut list, next);
        Ok(backend)
    }

    /// Removes a backend at run time. Calls in flight to it keep their guards.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, address: &str) -> Result<(), ChangeError> {
        let mut changes = self.changes();
        let mut list = self.write();
        let Some(gone) = list.backends.iter().find(|backend| backend.address() == address) else {
            return Err(ChangeError::Unknown(address.to_owned()));
        };
        if gone.origin() != Origin::Added {
            changes.removed.push(address.to_owned());
        }
        let next = list.backends.iter().filter(|backend| backend.address() != address).cloned().collect();
        changes.swap(&mut list, next);
        Ok(())
    }

    /// Changes a backend's weight at run time.
    ///
    /// # Errors
    /// When it is not there or the weight is out of range.
    pub fn set_weight(&self, address: &str, weight: u32) -> Result<Arc<Backend>, ChangeError> {
        check_weight(weight)?;
        let backend = self.get(address).ok_or_else(|| ChangeError::Unknown(address.to_owned()))?;
        backend.set_weight(weight);
        Ok(backend)
    }

    /// Drains a backend, or puts it back.
    ///
    /// # Errors
    /// When it is not there.
    pub fn set_draining(&self, address: &str, draining: bool) -> Result<Arc<Backend>, ChangeError> {
        let backend = self.get(address).ok_or_else(|| ChangeError::Unknown(address.to_owned()))?;
        backend.set_draining(draining);
        Ok(backend)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Arc<List>> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_weight(weight: u32) -> Result<(), ChangeError> {
    if (1..=MAX_WEIGHT).contains(&weight) { Ok(()) } else { Err(ChangeError::Weight(weight)) }
}

#[cfg(test)]
mod tests;
