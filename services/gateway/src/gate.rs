//! Limits on calls in flight: counted on the way in, refused beyond the limit of the moment, counted out by a guard.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::config::{Overload, Priority};

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
    fn batch_leaves_room() {
        let overload = Overload { batch_percent: 80, ..Overload::default() };
        assert_eq!(limit(10, &overload, Priority::Interactive), 10);
        assert_eq!(limit(10, &overload, Priority::Batch), 8);
        assert_eq!(limit(usize::MAX, &overload, Priority::Batch), usize::MAX / 5 * 4);
    }
}
