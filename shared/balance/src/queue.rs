//! The line in which calls wait for a backend with room: bounded, interactive before batch, then by deadline.

use std::{collections::BTreeMap, time::Instant};

/// How urgent a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody waits for the answer.
    Interactive,
    /// Nobody watches.
    Batch,
}

/// Where a call stands in the line; good for [`Queue::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    class: Class,
    deadline: Instant,
    number: u64,
}

impl Place {
    /// How urgent the call is.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Until when it is worth anything.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// Why a call may not wait. It comes back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused<T> {
    /// The line is full.
    #[error("too many calls wait")]
    Full(T),
    /// Its deadline has passed.
    #[error("the deadline has passed")]
    Late(T),
}

/// What a pop found.
#[derive(Debug, PartialEq, Eq)]
pub struct Popped<T> {
    /// The most urgent call that is in time, and where it stood.
    pub next: Option<(Place, T)>,
    /// Calls that are too late, to be told so; they have left the line.
    pub late: Vec<T>,
}

/// The line. Not shared: its owner locks it.
#[derive(Debug)]
pub struct Queue<T> {
    limit: usize,
    number: u64,
    interactive: BTreeMap<Place, T>,
    batch: BTreeMap<Place, T>,
}

impl<T> Queue<T> {
    /// An empty line for at most `limit` calls.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, number: 0, interactive: BTreeMap::new(), batch: BTreeMap::new() }
    }

    /// How many wait, late ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the limit. Those who wait stay, even if they are more.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes a call into the line. Equal ones leave in the order they came.
    ///
    /// # Errors
    /// When it is too late for the call, or the line is full.
    pub fn push(
        &mut self,
        call: T,
        class: Class,
        deadline: Instant,
        now: Instant,
    ) -> Result<Place, Refused<T>> {
        if deadline <= now {
            return Err(Refused::Late(call));
        }
        if self.len() >= self.limit {
            return Err(Refused::Full(call));
        }
        self.number += 1;
        let place = Place { class, deadline, number: self.number };
        self.of(class).insert(place, call);
        Ok(place)
    }

    /// Takes the most urgent call that is in time out of the line, and all that are late, of either class: they only
    /// take up room.
    pub fn pop(&mut self, now: Instant) -> Popped<T> {
        let late = self.expire(now);
        let next = self.interactive.pop_first().or_else(|| self.batch.pop_first());
        Popped { next, late }
    }

    /// Puts a call back where it stood, because there was nothing for it yet.
    pub fn restore(&mut self, place: Place, call: T) {
        self.of(place.class).insert(place, call);
    }

    /// Takes all late calls out of the line, in its order.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut late = Vec::new();
        for waiting in [&mut self.interactive, &mut self.batch] {
            while let Some(first) = waiting.first_entry().filter(|first| first.key().deadline <= now) {
                late.push(first.remove());
            }
        }
        late
    }

    /// Takes a call out of the line, because its caller went away. `None` if it has left already.
    pub fn remove(&mut self, place: &Place) -> Option<T> {
        self.of(place.class).remove(place)
    }

    /// When the next call becomes late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let firsts = [&self.interactive, &self.batch].map(|waiting| waiting.keys().next());
        firsts.into_iter().flatten().map(|place| place.deadline).min()
    }

    const fn of(&mut self, class: Class) -> &mut BTreeMap<Place, T> {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        }
    }
}

#[cfg(test)]
mod tests;
