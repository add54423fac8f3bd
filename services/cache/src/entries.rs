//! The cache's rules over a store: a dead store costs hits, never a read; writes never pretend.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    error::Error,
    key::Key,
    metrics::{Counters, Event},
    store::{Item, Lease, Lookup, Store, StoreError},
    ttl,
};

/// The entries of one store.
pub struct Entries<S> {
    store: S,
    counters: Counters,
    retry_after: Duration,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value.
    Hit(Bytes),
    /// No value. The caller may fill it under the lease, if there is one; there is none when the store is away.
    Miss(Option<Lease>),
    /// No value, and another caller is loading it; to be asked again after this time.
    Wait(Duration),
}

impl<S: Store> Entries<S> {
    /// Rules over a store. A caller told to wait is told to wait for `retry_after`.
    pub fn new(store: S, retry_after: Duration) -> Self {
        Self { store, counters: Counters::new(), retry_after }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reads a key. Never fails: an unreachable store is a miss without a lease.
    pub async fn get(&self, key: &Key) -> Answer {
        let (answer, event) = match self.store.lookup(key).await {
            Ok(Lookup::Hit(value)) => (Answer::Hit(value), Event::Hit),
            Ok(Lookup::Leased(lease)) => (Answer::Miss(Some(lease)), Event::Miss),
            Ok(Lookup::Held) => (Answer::Wait(self.retry_after), Event::Wait),
            Err(error) => {
                self.failed(&error);
                (Answer::Miss(None), Event::Miss)
            }
        };
        self.counters.count(key.pattern(), event);
        answer
    }

    /// Reads keys, without leases. Never fails. Values beyond `max_bytes` in total are answered as misses.
    pub async fn get_many(&self, keys: &[Key], max_bytes: usize) -> Vec<Option<Bytes>> {
        let mut values = match self.store.get_many(keys).await {
            Ok(values) => values,
            Err(error) => {
                self.failed(&error);
                vec![None; keys.len()]
            }
        };
        let mut room = max_bytes;
        for (key, value) in keys.iter().zip(&mut values) {
            let size = value.as_ref().map_or(0, Bytes::len);
            if size <= room {
                room -= size;
            } else {
                *value = None;
            }
            self.counters.count(key.pattern(), if value.is_some() { Event::Hit } else { Event::Miss });
        }
        values
    }

    /// Stores values, whatever is there.
    ///
    /// # Errors
    /// When the store did not confirm it.
    pub async fn set(&self, items: Vec<Item>) -> Result<(), Error> {
        let items: Vec<_> = items.into_iter().map(jittered).collect();
        self.checked(self.store.set(&items).await)?;
        self.count_all(items.iter().map(|item| &item.key), Event::Store);
        Ok(())
    }

    /// Stores a value under the lease of a miss, and answers whether the lease still stood.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn fill(&self, item: Item, lease: Lease) -> Result<bool, Error> {
        let item = jittered(item);
        let stored = self.checked(self.store.fill(&item, lease).await)?;
        self.counters.count(item.key.pattern(), if stored { Event::Store } else { Event::RefusedFill });
        Ok(stored)
    }

    /// Drops keys and their leases as one step, and answers how many of them held a value.
    ///
    /// # Errors
    /// When the store did not confirm it.
    pub async fn remove(&self, keys: &[Key]) -> Result<u32, Error> {
        let held = self.checked(self.store.remove(keys).await)?;
        self.count_all(keys.iter(), Event::Invalidation);
        Ok(held)
    }

    fn count_all<'a>(&self, keys: impl Iterator<Item = &'a Key>, event: Event) {
        keys.for_each(|key| self.counters.count(key.pattern(), event));
    }

    fn checked<T>(&self, result: Result<T, StoreError>) -> Result<T, Error> {
        result.map_err(|error| {
            self.failed(&error);
            error.into()
        })
    }

    /// Counted here and logged by who watches the store: a line per call would drown the one that matters.
    fn failed(&self, error: &StoreError) {
        tracing::debug!(error = %weft_mesh::error::chain(error), "store call failed");
        self.counters.count_store_error();
    }
}

fn jittered(item: Item) -> Item {
    Item { ttl: ttl::jittered(item.ttl, fastrand::f64()), ..item }
}
