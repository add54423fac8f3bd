//! How many calls are in flight, over time.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::time::sleep;

/// Samples are taken at whole multiples of it since the epoch, so that those of several processes belong together.
const TICK: Duration = Duration::from_millis(10);
/// A minute of them; older ones go.
const MOST_SAMPLES: usize = 6000;

/// Counts calls in flight and keeps the account.
#[derive(Debug)]
pub(super) struct Gauge(Mutex<Account>);

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Gauge>);

/// Calls in flight since the last reset. Time is passed in and never goes back.
#[derive(Debug)]
struct Account {
    since: Instant,
    /// When the number in flight changed last.
    changed: Instant,
    in_flight: u64,
    calls: u64,
    /// In flight × seconds, up to the last change.
    area: f64,
    /// Ticks since the epoch, and how many were in flight then.
    samples: VecDeque<(u64, u64)>,
}

impl Gauge {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Account::new(Instant::now(), 0))))
    }

    pub(super) fn enter(self: &Arc<Self>) -> Counted {
        self.account().enter(Instant::now());
        Counted(Arc::clone(self))
    }

    /// Begins the account anew; calls in flight stay so.
    pub(super) fn reset(&self) {
        let mut account = self.account();
        *account = Account::new(Instant::now(), account.in_flight);
    }

    /// Calls begun, their mean number in flight weighted by time, seconds, and samples `[tick, in flight]`.
    pub(super) fn report(&self) -> Value {
        let mut account = self.account();
        let (seconds, mean) = account.mean(Instant::now());
        json!({
            "calls": account.calls, "in_flight": account.in_flight, "mean_in_flight": mean,
            "seconds": seconds, "samples": account.samples,
        })
    }

    /// Takes samples, for ever.
    pub(super) async fn sample(&self) -> Infallible {
        loop {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let next = since_epoch.as_secs_f64().div_euclid(TICK.as_secs_f64()) + 1.0;
            sleep(TICK.mul_f64(next).saturating_sub(since_epoch)).await;
            self.account().sample(next as u64);
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.account().leave(Instant::now());
    }
}

impl Account {
    const fn new(now: Instant, in_flight: u64) -> Self {
        Self { since: now, changed: now, in_flight, calls: 0, area: 0.0, samples: VecDeque::new() }
    }

    fn enter(&mut self, now: Instant) {
        self.pass(now);
        self.in_flight += 1;
        self.calls += 1;
    }

    fn leave(&mut self, now: Instant) {
        self.pass(now);
        self.in_flight -= 1;
    }

    /// Seconds, and the mean in flight during them.
    fn mean(&mut self, now: Instant) -> (f64, f64) {
        self.pass(now);
        let seconds = (now - self.since).as_secs_f64();
        (seconds, if seconds > 0.0 { self.area / seconds } else { 0.0 })
    }

    fn sample(&mut self, tick: u64) {
        if self.samples.len() == MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((tick, self.in_flight));
    }

    fn pass(&mut self, now: Instant) {
        self.area += self.in_flight as f64 * (now - self.changed).as_secs_f64();
        self.changed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_weighted_by_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut account = Account::new(start, 0);
        account.enter(at(0));
        account.enter(at(1));
        account.leave(at(2));
        account.leave(at(2));
        // One for a second, two for another, then nobody for two.
        assert_eq!(account.mean(at(4)), (4.0, 0.75));
        assert_eq!(account.calls, 2);
    }

    #[test]
    fn a_reset_forgets_the_past_and_keeps_who_is_there() {
        let gauge = Gauge::new();
        let stays = gauge.enter();
        drop([gauge.enter(), gauge.enter()]);
        gauge.account().sample(1);
        gauge.reset();
        let report = gauge.report();
        assert_eq!((&report["calls"], &report["in_flight"]), (&json!(0), &json!(1)));
        assert_eq!(report["samples"], json!([]));
        drop(stays);
        assert_eq!(gauge.report()["in_flight"], 0);
    }

    #[test]
    fn old_samples_make_room() {
        let mut account = Account::new(Instant::now(), 3);
        (0..=MOST_SAMPLES as u64).for_each(|tick| account.sample(tick));
        assert_eq!((account.samples.len(), account.samples[0]), (MOST_SAMPLES, (1, 3)));
    }
}
