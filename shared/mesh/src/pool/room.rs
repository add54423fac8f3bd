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

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream::FuturesOrdered};
    use tokio_stream::StreamExt as _;
    use weft_balance::{Class, Desired, Origin, Settings, Thresholds};

    use super::*;

    struct Scene {
        backends: Backends,
        room: Room,
        tally: Tally,
    }

    impl Scene {
        /// Backends that may have one call each.
        fn of(backends: &[&str], limit: usize) -> Self {
            let (settings, now) = (Settings { max_in_flight: 1, ..Settings::default() }, Instant::now());
            let pool = Backends::new(Thresholds::default(), settings, now);
            let desired = |address: &&str| Desired {
                address: (*address).to_owned(),
                weight: 1,
                tier: 0,
                origin: Origin::Config,
            };
            pool.reconcile(&backends.iter().map(desired).collect::<Vec<_>>());
            for backend in pool.list().iter() {
                backend.checked(Ok(()), now);
            }
            let room = Room::new(Waiting { limit, time: Duration::from_secs(60) });
            Self { backends: pool, room, tally: Tally::default() }
        }

        fn take(&self) -> InFlight {
            self.backends.pick(&Ask::at(Instant::now())).unwrap()
        }

        /// As the end of a call does.
        fn free(&self, call: InFlight) {
            drop(call);
            self.room.made(&self.backends);
        }

        async fn wait(&self, terms: &Terms, tried: &[Arc<Backend>]) -> Picked {
            self.room.wait(&self.backends, tried, terms, &self.tally).await
        }

        /// The highest number of a pick so far.
        fn picks(&self) -> u64 {
            self.backends.recorded()[0].ticket
        }
    }

    fn terms(class: Class, seconds: Option<u64>) -> Terms {
        Terms { class, ..Terms::within(seconds.map(Duration::from_secs)) }
    }

    #[tokio::test]
    async fn places_go_to_interactive_calls_first_then_by_deadline_and_nobody_is_woken_for_nothing() {
        let scene = Scene::of(&["a:1"], 9);
        let mut held = scene.take();
        let of = [
            terms(Class::Batch, Some(1)),
            terms(Class::Interactive, None),
            terms(Class::Interactive, Some(50)),
            terms(Class::Interactive, Some(40)),
        ];
        let mut waiting: Vec<_> = of.iter().map(|terms| Box::pin(scene.wait(terms, &[]))).collect();
        for call in &mut waiting {
            assert!(call.now_or_never().is_none());
        }
        assert_eq!(scene.room.waiting(), 4);
        for turn in [3, 2, 1, 0] {
            let before = scene.picks();
            scene.free(held);
            // One pick for the place, and one that finds no further one.
            assert!(scene.picks() - before <= 2);
            for (other, call) in waiting.iter_mut().enumerate().filter(|(other, _)| *other < turn) {
                assert!(call.now_or_never().is_none(), "{other} before {turn}");
            }
            held = waiting.remove(turn).await.unwrap();
        }
        assert_eq!(scene.room.waiting(), 0);
    }

    #[tokio::test]
    async fn a_place_is_handed_on_by_who_went_away_and_not_taken_by_who_came_later() {
        let scene = Scene::of(&["a:1"], 9);
        let held = scene.take();
        let terms = terms(Class::Interactive, None);
        let mut first = Box::pin(scene.wait(&terms, &[]));
        let mut second = Box::pin(scene.wait(&terms, &[]));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        scene.free(held);
        // The first one has the place, but has not looked yet.
        assert_eq!(scene.backends.list()[0].in_flight(), 1);
        let mut third = Box::pin(scene.wait(&terms, &[]));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        let second = second.await.unwrap();
        assert!((&mut third).now_or_never().is_none());
        drop(third);
        assert_eq!(scene.room.waiting(), 0);
        drop(second);
        assert_eq!(scene.backends.list()[0].in_flight(), 0);
    }

    #[tokio::test]
    async fn who_cannot_use_a_place_lets_the_next_one_have_it() {
        let scene = Scene::of(&["a:1", "b:1"], 9);
        let (one, other) = (scene.take(), scene.take());
        let (choosy, any) = (terms(Class::Interactive, Some(1)), terms(Class::Interactive, Some(50)));
        let tried = [Arc::clone(one.backend())];
        let mut choosy = Box::pin(scene.wait(&choosy, &tried));
        let any = scene.wait(&any, &[]);
        assert!((&mut choosy).now_or_never().is_none());
        let mut any = Box::pin(any);
        assert!((&mut any).now_or_never().is_none());
        scene.free(one);
        let taken = any.await.unwrap();
        assert_eq!(taken.backend().address(), tried[0].address());
        scene.free(other);
        assert_ne!(choosy.await.unwrap().backend().address(), tried[0].address());
    }

    #[tokio::test]
    async fn the_line_is_short_and_ends_when_nobody_is_healthy() {
        let scene = Scene::of(&["a:1"], 2);
        let _held = scene.take();
        let terms = terms(Class::Interactive, None);
        let mut waiting: FuturesOrdered<_> = (0..2).map(|_| scene.wait(&terms, &[])).collect();
        assert!(waiting.next().now_or_never().is_none());
        assert_eq!(scene.wait(&terms, &[]).await.unwrap_err(), Refusal::Full);
        assert_eq!(scene.tally.pending_overflow.load(Ordering::Relaxed), 1);
        scene.backends.list()[0].mark_down("refused", Instant::now());
        scene.room.made(&scene.backends);
        assert!(waiting.all(|picked| matches!(picked, Err(Refusal::NoneHealthy))).await);
    }
}
