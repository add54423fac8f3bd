//! Entries in this process: a weighted cache with our own expiry, for one process alone.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle, EntryAction, EntryResult},
};

use super::{Item, Lease, Lookup, Store, StoreError, Usage};
use crate::key::Key;

/// What an entry costs beside its key and value: the map's slot, the header, two reference counts.
const OVERHEAD_BYTES: u64 = 128;
/// A shard takes no value that is larger than itself, so each must have room for several.
const VALUES_PER_SHARD: u64 = 8;
const MAX_SHARDS: u64 = 64;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// All entries together, keys and overhead included.
    pub max_bytes: u64,
    /// The largest value.
    pub max_value_bytes: u64,
    /// How long a lease stands.
    pub lease: Duration,
}

/// The embedded store.
///
/// Each key is changed under its shard's lock. Removals of several keys exclude lookups for their length, so that a
/// group goes in one step. Expired entries are never answered; [`sweep`](Self::sweep) frees them.
pub struct MemoryStore {
    slots: Cache<Key, Slot, Weight>,
    removals: RwLock<()>,
    held: Arc<Held>,
    lease: Duration,
}

/// What a key holds.
#[derive(Clone)]
enum Slot {
    Leased { lease: Lease, until: Instant },
    Value(Arc<Value>),
}

struct Value {
    bytes: Bytes,
    until: Instant,
    held: Arc<Held>,
}

/// Counts the values alive; each counts itself in and out, so that no way out of the cache is missed.
#[derive(Default)]
struct Held {
    entries: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Clone)]
struct Weight;

impl MemoryStore {
    /// An empty store. Nothing is allocated for entries yet.
    #[must_use]
    pub fn new(limits: MemoryLimits) -> Self {
        let shards =
            (limits.max_bytes / (VALUES_PER_SHARD * limits.max_value_bytes.max(1))).clamp(1, MAX_SHARDS);
        let options = OptionsBuilder::new()
            .shards(1 << shards.ilog2())
            .weight_capacity(limits.max_bytes)
            .estimated_items_capacity(
                usize::try_from(limits.max_bytes / 1024).unwrap_or(usize::MAX).max(2048),
            )
            .build();
        let slots = match options {
            Ok(options) => Cache::with_options(
                options,
                Weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // Only a missing capacity is an error, and both are given.
            Err(_) => Cache::with_weighter(2048, limits.max_bytes, Weight),
        };
        Self { slots, removals: RwLock::default(), held: Arc::default(), lease: limits.lease }
    }

    /// Frees what has expired by now.
    pub fn sweep(&self, now: Instant) {
        self.slots.retain(|_, slot| slot.live(now));
    }

    fn lookup_at(&self, key: &Key, now: Instant) -> Lookup {
        let _removals = self.removals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Slot::Value(value)) = self.slots.get(key)
            && value.until > now
        {
            return Lookup::Hit(value.bytes.clone());
        }
        let lease = Lease::unique();
        let leased = Slot::Leased { lease, until: now + self.lease };
        let found = self.slots.entry(key, None, |_, slot| {
            EntryAction::Retain(match slot {
                Slot::Value(value) if value.until > now => Lookup::Hit(value.bytes.clone()),
                Slot::Leased { until, .. } if *until > now => Lookup::Held,
                expired => {
                    *expired = leased.clone();
                    Lookup::Leased(lease)
                }
            })
        });
        match found {
            EntryResult::Retained(found) => found,
            EntryResult::Vacant(guard) | EntryResult::Replaced(guard, _) => {
                // A set or a removal that came in between has ended this lease already: its fill will be refused.
                let _ = guard.insert(leased);
                Lookup::Leased(lease)
            }
            EntryResult::Removed(..) | EntryResult::Timeout => Lookup::Held,
        }
    }

    fn fill_at(&self, item: &Item, lease: Lease, now: Instant) -> bool {
        let mut value = Some(self.value(item, now));
        let filled = self.slots.entry(&item.key, None, |_, slot| match slot {
            Slot::Leased { lease: standing, until } if *standing == lease && *until > now => {
                if let Some(value) = value.take() {
                    *slot = value;
                }
                EntryAction::Retain(true)
            }
            _ => EntryAction::Retain(false),
        });
        // A vacant entry's guard is dropped unused, which leaves the key holding nothing.
        matches!(filled, EntryResult::Retained(true))
    }

    /// Copies the bytes: what comes in is a slice of a whole request, which would stay in memory with it.
    fn value(&self, item: &Item, now: Instant) -> Slot {
        let bytes = Bytes::copy_from_slice(&item.value);
        self.held.entries.fetch_add(1, Relaxed);
        self.held.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Slot::Value(Arc::new(Value { bytes, until: now + item.ttl, held: Arc::clone(&self.held) }))
    }
}

impl Store for MemoryStore {
    async fn lookup(&self, key: &Key) -> Result<Lookup, StoreError> {
        Ok(self.lookup_at(key, Instant::now()))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let now = Instant::now();
        let _removals = self.removals.read().unwrap_or_else(PoisonError::into_inner);
        let read = |key| match self.slots.get(key) {
            Some(Slot::Value(value)) if value.until > now => Some(value.bytes.clone()),
            _ => None,
        };
        Ok(keys.iter().map(read).collect())
    }

    async fn set(&self, items: &[Item]) -> Result<(), StoreError> {
        let now = Instant::now();
        for item in items {
            self.slots.insert(item.key.clone(), self.value(item, now));
        }
        Ok(())
    }

    async fn fill(&self, item: &Item, lease: Lease) -> Result<bool, StoreError> {
        Ok(self.fill_at(item, lease, Instant::now()))
    }

    async fn remove(&self, keys: &[Key]) -> Result<u32, StoreError> {
        let now = Instant::now();
        // One key goes in one step by itself.
        let _removals =
            (keys.len() > 1).then(|| self.removals.write().unwrap_or_else(PoisonError::into_inner));
        let removed = keys.iter().filter_map(|key| self.slots.remove(key));
        let values = removed.filter(|(_, slot)| matches!(slot, Slot::Value(_)) && slot.live(now)).count();
        Ok(u32::try_from(values).unwrap_or(u32::MAX))
    }

    fn backend(&self) -> &'static str {
        "memory"
    }

    fn usage(&self) -> Usage {
        Usage { entries: self.held.entries.load(Relaxed), bytes: self.held.bytes.load(Relaxed) }
    }

    fn reachable(&self) -> bool {
        true
    }
}

impl Slot {
    fn live(&self, now: Instant) -> bool {
        match self {
            Self::Leased { until, .. } => *until > now,
            Self::Value(value) => value.until > now,
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.held.entries.fetch_sub(1, Relaxed);
        self.held.bytes.fetch_sub(self.bytes.len() as u64, Relaxed);
    }
}

impl Weighter<Key, Slot> for Weight {
    fn weight(&self, key: &Key, slot: &Slot) -> u64 {
        let value = match slot {
            Slot::Leased { .. } => 0,
            Slot::Value(value) => value.bytes.len(),
        };
        OVERHEAD_BYTES + (key.as_str().len() + value) as u64
    }
}

#[cfg(test)]
mod tests;
