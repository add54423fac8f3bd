//! Waiting for a backend with room: a short line, interactive calls first, then those with the least time left.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::{sync::oneshot, time::timeout_at};
use weft_balance::{InFlight, Place, Queue, Refusal};

use super::{Tally, Waiting, count};
use crate::terms::Terms;

/// The line before a pool.
#[derive(Debug)]
pub(super) struct Room {
    line: Mutex<Queue<oneshot::Sender<()>>>,
    /// How many wait, read on every pick.
    waiting: AtomicUsize,
    settings: Mutex<Waiting>,
}

/// A call in the line; dropped, it leaves it.
struct InLine<'a> {
    room: &'a Room,
    place: Place,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.room.line().remove(&self.place).is_none() {
            // It was called and does not come: the next one may.
            self.room.made();
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
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn is_contended(&self) -> bool {
        self.waiting() > 0
    }

    /// There may be room: calls the first in the line.
    pub(super) fn made(&self) {
        if !self.is_contended() {
            return;
        }
        let now = Instant::now();
        // The late ones see it by their own clock. One that went away is passed over.
        while let Some(next) = self.line().pop(now).next {
            if next.send(()).is_ok() {
                return;
            }
        }
    }

    /// Waits until `pick` finds somebody, at most as long as the call has time and the settings allow.
    pub(super) async fn wait(
        &self,
        terms: &Terms,
        tally: &Tally,
        pick: impl Fn() -> Result<InFlight, Refusal>,
    ) -> Result<InFlight, Refusal> {
        count(&tally.pending);
        let until = Instant::now() + self.settings().time;
        let until = terms.deadline.at().map_or(until, |deadline| until.min(deadline));
        loop {
            let (called, call) = oneshot::channel();
            let pushed = self.line().push(called, terms.class, until, Instant::now());
            let Ok(place) = pushed else { break };
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let in_line = InLine { room: self, place };
            // Room that was made before this call stood in the line called nobody.
            let picked = match pick() {
                Err(Refusal::Full) => {
                    let Ok(_) = timeout_at(until.into(), call).await else { break };
                    pick()
                }
                picked => picked,
            };
            drop(in_line);
            match picked {
                Err(Refusal::Full) => {}
                picked => return picked,
            }
        }
        count(&tally.pending_overflow);
        Err(Refusal::Full)
    }

    // A panic cannot leave the line half-changed: each of its operations is whole.
    fn line(&self) -> MutexGuard<'_, Queue<oneshot::Sender<()>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
