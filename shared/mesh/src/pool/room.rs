//! Waiting for a backend with room: a short line, interactive calls first, then those with the least time left.
//!
//! Whoever makes room picks for the first in the line and hands the place over, so nobody who comes later can take it
//! on the way, and nobody is woken for nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout_at};
use weft_balance::{Ask, Backend, Backends, InFlight, Place, Queue, Refusal};

use super::{Tally, Waiting, count};
use crate::terms::Terms;

/// In the line a call without a deadline stands behind those that have one.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

type Picked = Result<InFlight, Refusal>;

/// The line before a pool.
#[derive(Debug)]
pub(super) struct Room {
    line: Mutex<Queue<Waiter>>,
    /// How many wait, read on every pick.
    waiting: AtomicUsize,
    settings: Mutex<Waiting>,
}

/// A call in the line, as those see it who make room.
#[derive(Debug)]
struct Waiter {
    tried: Vec<Arc<Backend>>,
    key: Option<u64>,
    answer: oneshot::Sender<Picked>,
}

/// A call in the line; dropped, it leaves it, and leaves a place that it was given meanwhile to the next one.
struct InLine<'a> {
    room: &'a Room,
    backends: &'a Backends,
    place: Place,
    answer: oneshot::Receiver<Picked>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.room.line().remove(&self.place);
        self.room.waiting.fetch_sub(1, Ordering::SeqCst);
        self.answer.close();
        if let Ok(Ok(place)) = self.answer.try_recv() {
            drop(place);
            self.room.made(self.backends);
        }
    }
}

impl Room {
    pub(super) fn new(settings: Waiting) -> Self {
        let (line, settings) = (Mutex::new(Queue::new(settings.limit)), Mutex::new(settings));
        Self { line, waiting: AtomicUsize::new(0), settings }
    }

    /// Changes the limits. Those who wait stay, for as long as they were told.
    pub(super) fn configure(&self, settings: Waiting) {
        self.line().set_limit(settings.limit);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn settings(&self) -> Waiting {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(super) fn is_contended(&self) -> bool {
        self.waiting() > 0
    }

    /// There may be room: picks for those in the line, in its order, until there is none.
    pub(super) fn made(&self, backends: &Backends) {
        if !self.is_contended() {
            return;
        }
        let now = Instant::now();
        let mut line = self.line();
        // Whom nobody has room for whom it has not tried: it stays where it stands, and the next one may have more luck.
        let mut passed_over = VecDeque::new();
        // The late ones learn of it by their own clocks.
        while let Some((place, waiter)) = line.pop(now).next {
            let picked = backends.pick(&Ask { tried: &waiter.tried, key: waiter.key, now });
            if matches!(picked, Err(Refusal::Full)) {
                let choosy = !waiter.tried.is_empty();
                passed_over.push_back((place, waiter));
                if choosy {
                    continue;
                }
                break;
            }
            // Given back by one that went away, the place is the next one's.
            drop(waiter.answer.send(picked));
        }
        for (place, waiter) in passed_over {
            line.restore(place, waiter);
        }
    }

    /// Waits until there is room or nobody is healthy, at most as long as the call has time and the settings allow.
    pub(super) async fn wait(
        &self,
        backends: &Backends,
        tried: &[Arc<Backend>],
        terms: &Terms,
        tally: &Tally,
    ) -> Picked {
        count(&tally.pending);
        let (answer, answered) = oneshot::channel();
        let now = Instant::now();
        let deadline = terms.deadline.at();
        let until = now + self.settings().time;
        let waiter = Waiter { tried: tried.to_vec(), key: terms.key, answer };
        // Before the look for room, so that nobody who makes some overlooks it.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let pushed = self.line().push(waiter, terms.class, deadline.unwrap_or(now + NO_DEADLINE), now);
        let Ok(place) = pushed else {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            count(&tally.pending_overflow);
            return Err(Refusal::Full);
        };
        let mut in_line = InLine { room: self, backends, place, answer: answered };
        self.made(backends);
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        match timeout_at(until.into(), &mut in_line.answer).await {
            Ok(Ok(picked)) => picked,
            Ok(Err(_)) | Err(_) => {
                count(&tally.pending_overflow);
                Err(Refusal::Full)
            }
        }
    }

    // A panic cannot leave the line half-changed: each of its operations is whole.
    fn line(&self) -> MutexGuard<'_, Queue<Waiter>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
