//! Limits on calls in flight: counted on the way in, refused beyond the limit of the moment, counted out by a guard.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::config::{Overload, Priority};

/// Locks of [`Shares`].
const SHARDS: usize = 16;

/// Counts calls in flight. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<AtomicUsize>);

/// A call in flight, until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside(Arc<AtomicUsize>);

impl Gate {
    /// Lets a call in, unless `limit` calls are in already.
    pub(crate) fn enter(&self, limit: usize) -> Option<Inside> {
        let inside = self.enter_anyway();
        // Counted first, so that of many at once no more than the limit get in.
        (self.0.load(Ordering::Relaxed) <= limit).then_some(inside)
    }

    fn enter_anyway(&self) -> Inside {
        self.0.fetch_add(1, Ordering::Relaxed);
        Inside(Arc::clone(&self.0))
    }

    /// Calls in flight.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts calls in flight of each of many: there are no more of them than calls. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    hasher: RandomState,
    /// Calls of different ones seldom meet.
    shards: [Mutex<HashMap<u64, usize>>; SHARDS],
}

/// One call of somebody's, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    counts: Arc<Counts>,
    key: u64,
}

impl Shares {
    /// Lets a call of somebody's in, unless `limit` of theirs are in already.
    pub(crate) fn enter(&self, whose: impl Hash, limit: usize) -> Option<Share> {
        let key = self.0.hasher.hash_one(whose);
        let mut shard = self.0.shard(key);
        let count = shard.entry(key).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Share { counts: Arc::clone(&self.0), key })
    }
}

impl Counts {
    fn shard(&self, key: u64) -> MutexGuard<'_, HashMap<u64, usize>> {
        let [first, ..] = &self.shards;
        let shard = self.shards.get(usize::try_from(key % SHARDS as u64).unwrap_or(0)).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shard = self.counts.shard(self.key);
        if let Entry::Occupied(mut count) = shard.entry(self.key) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// How many calls may be in flight when one of a priority comes: batch calls leave room for those a person waits for.
pub(crate) const fn limit(max_in_flight: usize, overload: &Overload, priority: Priority) -> usize {
    match priority {
        Priority::Interactive => max_in_flight,
        // 128 bits: the product of two sizes.
        Priority::Batch => (max_in_flight as u128 * overload.batch_percent as u128 / 100) as usize,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_limit_holds_among_threads_and_the_count_returns_to_zero() {
        let gate = Gate::default();
        let held: usize = thread::scope(|scope| {
            let enter = || (0..100).filter_map(|_| gate.enter(64)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(enter)).collect();
            let inside: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(gate.count(), inside.iter().map(Vec::len).sum::<usize>());
            gate.count()
        });
        assert!((1..=64).contains(&held), "{held}");
        assert_eq!(gate.count(), 0);
        assert!(gate.enter(1).is_some());
        assert!(gate.enter(0).is_none());
    }

    #[test]
    fn each_has_a_limit_of_its_own_and_nothing_is_kept_of_who_is_gone() {
        let shares = Shares::default();
        let ada: Vec<_> = (0..3).map_while(|_| shares.enter("ada", 2)).collect();
        assert_eq!(ada.len(), 2);
        let bob = shares.enter("bob", 2).unwrap();
        drop(ada);
        assert!(shares.enter("ada", 1).is_some());
        drop(bob);
        assert!(shares.0.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        let held: usize = thread::scope(|scope| {
            let enter = || (0..100).filter_map(|_| shares.enter("ada", 64)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(enter)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
                .iter()
                .map(Vec::len)
                .sum()
        });
        assert_eq!(held, 64);
        assert!(shares.0.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn batch_leaves_room() {
        let overload = Overload { batch_percent: 80, ..Overload::default() };
        assert_eq!(limit(10, &overload, Priority::Interactive), 10);
        assert_eq!(limit(10, &overload, Priority::Batch), 8);
        assert_eq!(limit(usize::MAX, &overload, Priority::Batch), usize::MAX / 5 * 4);
    }
}
