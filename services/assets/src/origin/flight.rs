//! One fetch at a time for each thing that is fetched, however many wait for it.
//!
//! A fetch runs on a task of its own and outlives those who wait; whoever comes meanwhile waits for the same one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The fetches under way, by what is fetched. Clones are the same.
#[derive(Debug)]
pub struct Flights<T>(Arc<Mutex<Waits<T>>>);

type Waits<T> = HashMap<String, watch::Receiver<Option<T>>>;

/// A place among those who wait.
#[derive(Debug)]
pub struct Waiting<T>(watch::Receiver<Option<T>>);

/// A fetch under way. Dropped without an outcome, those who wait get none.
#[derive(Debug)]
pub struct Flight<T> {
    waits: Arc<Mutex<Waits<T>>>,
    /// `None` once it is not under way any more.
    key: Option<String>,
    outcome: watch::Sender<Option<T>>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }
}

impl<T: Clone> Flights<T> {
    /// Joins the fetch of `key`, or begins it: then the caller gets it to carry out.
    ///
    /// A fetch that has just landed is not begun again: `landed` is asked under the lock that a landing takes, and what it
    /// gives is taken instead.
    ///
    /// # Errors
    /// None; what `landed` gave stands there.
    pub fn join<L>(
        &self,
        key: &str,
        landed: impl FnOnce() -> Option<L>,
    ) -> Result<(Waiting<T>, Option<Flight<T>>), L> {
        let mut waits = lock(&self.0);
        if let Some(wait) = waits.get(key) {
            return Ok((Waiting(wait.clone()), None));
        }
        if let Some(landed) = landed() {
            return Err(landed);
        }
        let (outcome, wait) = watch::channel(None);
        waits.insert(key.to_owned(), wait.clone());
        let flight = Flight { waits: self.0.clone(), key: Some(key.to_owned()), outcome };
        Ok((Waiting(wait), Some(flight)))
    }
}

impl<T: Clone> Waiting<T> {
    /// Waits for the outcome; `None` when there will be none.
    pub async fn outcome(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
    }
}

impl<T> Flight<T> {
    /// Gives all who wait the outcome. Whoever comes later begins anew: it is not under way any more before anybody gets
    /// to know its outcome.
    pub fn land(mut self, outcome: T) {
        self.leave();
        self.outcome.send_replace(Some(outcome));
    }

    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            lock(&self.waits).remove(&key);
        }
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

fn lock<T>(waits: &Mutex<Waits<T>>) -> MutexGuard<'_, Waits<T>> {
    waits.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Option<()> {
        None
    }

    #[tokio::test]
    async fn all_who_wait_get_the_outcome_of_one_flight() {
        let flights = Flights::<u32>::default();
        let (first, flight) = flights.join("a", nothing).unwrap();
        let (second, none) = flights.join("a", nothing).unwrap();
        assert!(none.is_none() && flights.join("b", nothing).unwrap().1.is_some());
        drop(first);
        flight.unwrap().land(7);
        assert_eq!(second.outcome().await, Some(7));
        assert!(flights.join("a", nothing).unwrap().1.is_some(), "the next begins anew");
    }

    #[tokio::test]
    async fn a_flight_that_is_lost_keeps_nobody_waiting() {
        let flights = Flights::<u32>::default();
        let (wait, flight) = flights.join("a", nothing).unwrap();
        drop(flight);
        assert_eq!(wait.outcome().await, None);
        assert!(flights.join("a", nothing).unwrap().1.is_some());
    }

    #[tokio::test]
    async fn a_landing_leaves_the_next_flight_alone() {
        let flights = Flights::<u32>::default();
        let (wait, flight) = flights.join("a", nothing).unwrap();
        let mut flight = flight.unwrap();
        flight.leave();
        let (next, second) = flights.join("a", nothing).unwrap();
        flight.land(1);
        assert_eq!(wait.outcome().await, Some(1));
        let (joined, none) = flights.join("a", nothing).unwrap();
        assert!(none.is_none(), "the second is still under way");
        second.unwrap().land(2);
        assert_eq!((next.outcome().await, joined.outcome().await), (Some(2), Some(2)));
    }

    #[test]
    fn what_has_just_landed_is_not_begun_again() {
        let flights = Flights::<u32>::default();
        assert_eq!(flights.join("a", || Some("here")).unwrap_err(), "here");
        assert!(flights.join("a", nothing).unwrap().1.is_some());
    }
}
