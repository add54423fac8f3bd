//! The backends of a pool: one list, swapped as a whole, whose counters survive the swap.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    backend::{Backend, InFlight, MAX_WEIGHT, Origin},
    health::Thresholds,
    least_connections,
};

/// A backend as configuration or discovery wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// `host:port`.
    pub address: String,
    /// 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// Where it comes from.
    pub origin: Origin,
}

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
    thresholds: Thresholds,
    list: RwLock<Arc<[Arc<Backend>]>>,
    /// Addresses removed at run time, which configuration and discovery do not bring back.
    removed: Mutex<Vec<String>>,
    ticket: AtomicUsize,
}

impl Backends {
    /// An empty pool.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            list: RwLock::new(Arc::new([])),
            removed: Mutex::new(Vec::new()),
            ticket: AtomicUsize::new(0),
        }
    }

    /// The backends as of now.
    #[must_use]
    pub fn list(&self) -> Arc<[Arc<Backend>]> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The backend of that address.
    #[must_use]
    pub fn get(&self, address: &str) -> Option<Arc<Backend>> {
        self.list().iter().find(|backend| backend.address() == address).cloned()
    }

    /// Picks the backend for a call, leaving out those that it has tried. `None` when no backend is left that is not
    /// unhealthy or drained. The call is in flight until the guard is dropped.
    #[must_use]
    pub fn pick(&self, tried: &[Arc<Backend>]) -> Option<InFlight> {
        let ticket = self.ticket.fetch_add(1, Ordering::Relaxed);
        let picked = least_connections::pick(&self.list(), tried, ticket)?;
        picked.backend().count_call();
        Some(picked)
    }

    /// Makes the list what configuration and discovery want, keeping the counters, health and run-time changes of
    /// those that stay, and those added at run time.
    pub fn reconcile(&self, desired: &[Desired]) {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let mut next: Vec<Arc<Backend>> = Vec::with_capacity(desired.len());
        for want in desired {
            let known = next.iter().any(|backend| backend.address() == want.address);
            if known || removed.contains(&want.address) {
                continue;
            }
            match list.iter().find(|backend| backend.address() == want.address) {
                Some(backend) => {
                    backend.configure_weight(want.weight);
                    next.push(Arc::clone(backend));
                }
                None => next.push(Arc::new(Backend::new(
                    &want.address,
                    want.weight,
                    want.origin,
                    self.thresholds,
                ))),
            }
        }
        for added in list.iter().filter(|backend| backend.origin() == Origin::Added) {
            if !next.iter().any(|backend| backend.address() == added.address()) {
                next.push(Arc::clone(added));
            }
        }
        *list = next.into();
    }

    /// Adds a backend at run time.
    ///
    /// # Errors
    /// When it is there already or the weight is out of range.
    pub fn add(&self, address: &str, weight: u32) -> Result<Arc<Backend>, ChangeError> {
        check_weight(weight)?;
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if list.iter().any(|backend| backend.address() == address) {
            return Err(ChangeError::Exists(address.to_owned()));
        }
        removed.retain(|other| other != address);
        let backend = Arc::new(Backend::new(address, weight, Origin::Added, self.thresholds));
        *list = list.iter().cloned().chain([Arc::clone(&backend)]).collect();
        Ok(backend)
    }

    /// Removes a backend at run time. Calls in flight to it keep their guards.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, address: &str) -> Result<(), ChangeError> {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let Some(gone) = list.iter().find(|backend| backend.address() == address) else {
            return Err(ChangeError::Unknown(address.to_owned()));
        };
        if gone.origin() != Origin::Added {
            removed.push(address.to_owned());
        }
        *list = list.iter().filter(|backend| backend.address() != address).cloned().collect();
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
}

fn check_weight(weight: u32) -> Result<(), ChangeError> {
    if (1..=MAX_WEIGHT).contains(&weight) { Ok(()) } else { Err(ChangeError::Weight(weight)) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn want(address: &str, weight: u32) -> Desired {
        Desired { address: address.to_owned(), weight, origin: Origin::Config }
    }

    fn addresses(backends: &Backends) -> Vec<String> {
        backends.list().iter().map(|backend| backend.address().to_owned()).collect()
    }

    #[test]
    fn counters_and_run_time_changes_survive_a_reconcile() {
        let backends = Backends::new(Thresholds::default());
        backends.reconcile(&[want("a:1", 1), want("b:1", 1)]);
        backends.get("a:1").unwrap().checked(Ok(()), Instant::now());
        let call = backends.pick(&[]).unwrap();
        assert_eq!(call.backend().address(), "a:1");
        backends.set_weight("a:1", 5).unwrap();
        backends.add("c:1", 2).unwrap();
        backends.remove("b:1").unwrap();

        backends.reconcile(&[want("a:1", 3), want("b:1", 1), want("d:1", 1)]);
        assert_eq!(addresses(&backends), ["a:1", "d:1", "c:1"], "removed stays removed, added stays added");
        let a = backends.get("a:1").unwrap();
        assert_eq!((a.in_flight(), a.weight(), a.changed()), (1, 5, true));

        backends.reconcile(&[]);
        assert_eq!(addresses(&backends), ["c:1"]);
        drop(call);
        assert_eq!(a.in_flight(), 0);
    }

    #[test]
    fn bad_changes_are_refused() {
        let backends = Backends::new(Thresholds::default());
        backends.add("a:1", 1).unwrap();
        assert_eq!(backends.add("a:1", 1).unwrap_err(), ChangeError::Exists("a:1".into()));
        assert_eq!(backends.add("b:1", 0).unwrap_err(), ChangeError::Weight(0));
        assert_eq!(backends.set_weight("a:1", 1001).unwrap_err(), ChangeError::Weight(1001));
        assert_eq!(backends.remove("x:1").unwrap_err(), ChangeError::Unknown("x:1".into()));
        assert!(backends.pick(&[]).is_some(), "unknown health serves when nothing else does");
        backends.set_draining("a:1", true).unwrap();
        assert!(backends.pick(&[]).is_none());
    }
}
