//! Responses that nobody reads. hyper asks a body for nothing while its client takes nothing, so the limits of such a
//! call are looked at from here, once in a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::time::{MissedTickBehavior, interval};

use super::response::Forwarded;

/// How often it is looked, and so how late a call may end that nobody reads.
const INTERVAL: Duration = Duration::from_secs(1);

/// The responses of one thread that are under way.
#[derive(Debug, Default)]
pub(crate) struct Unread(Mutex<Slab<Weak<Mutex<Forwarded>>>>);

/// A response that is under way, with its place among the others.
#[derive(Debug)]
pub(super) struct Watched {
    response: Arc<Mutex<Forwarded>>,
    among: Arc<Unread>,
    place: usize,
}

impl Unread {
    pub(super) fn watch(self: &Arc<Self>, response: Forwarded) -> Watched {
        let response = Arc::new(Mutex::new(response));
        let place = self.lock().insert(Arc::downgrade(&response));
        Watched { response, among: Arc::clone(self), place }
    }

    /// Ends those whose time is over, again and again.
    pub(crate) async fn sweep(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            // They are ended outside of the lock, which their ends need.
            let all: Vec<_> = self.lock().iter().filter_map(|(_, response)| response.upgrade()).collect();
            for response in all {
                match response.try_lock() {
                    Ok(mut response) => response.expire(now),
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().expire(now),
                    // Somebody reads it.
                    Err(TryLockError::WouldBlock) => {}
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Weak<Mutex<Forwarded>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    pub(super) fn lock(&self) -> MutexGuard<'_, Forwarded> {
        self.response.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.among.lock().try_remove(self.place);
    }
}
