//! One at a time for each asset, within this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::OwnerKey;

/// Size from which forgotten locks are looked for.
const SWEEP_FROM: usize = 1024;

/// Locks by owner and id; those nobody holds or waits for are forgotten.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Name, Weak<AsyncMutex<()>>>>);

type Name = (OwnerKey, String);

impl Locks {
    /// Waits for this asset's turn.
    pub(super) async fn lock(&self, owner: &OwnerKey, id: &str) -> OwnedMutexGuard<()> {
        self.of(owner, id).lock_owned().await
    }

    fn of(&self, owner: &OwnerKey, id: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= SWEEP_FROM && locks.len().is_power_of_two() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let entry = locks.entry((owner.clone(), id.to_owned())).or_default();
        if let Some(lock) = entry.upgrade() {
            return lock;
        }
        let lock = Arc::new(AsyncMutex::new(()));
        *entry = Arc::downgrade(&lock);
        lock
    }
}
