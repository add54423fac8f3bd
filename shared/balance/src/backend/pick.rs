//! What a pick, and the call that comes of it, do with a backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Backend,
    flags::{EJECTED, Flags, SLOW},
};
use crate::{clock::Moment, in_flight::InFlight};

/// How long one probe keeps others away. It may take long to its first byte, or never come there.
const PROBE_TIME: Duration = Duration::from_secs(5);

impl Backend {
    pub(crate) fn flags(&self) -> Flags {
        Flags(self.hot.flags.load(Ordering::Acquire))
    }

    /// Sets or clears a flag. Returns whether it was set before.
    pub(super) fn set(&self, flag: u32, on: bool) -> bool {
        let flags = &self.hot.flags;
        let before = if on {
            flags.fetch_or(flag, Ordering::AcqRel)
        } else {
            flags.fetch_and(!flag, Ordering::AcqRel)
        };
        Flags(before).has(flag)
    }

    /// A number that is the same for the same address everywhere.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn pass(&self) -> &AtomicU64 {
        &self.hot.pass
    }

    pub(crate) fn expected_latency(&self, at: Moment) -> f64 {
        self.hot.latency.expected(at)
    }

    pub(crate) fn foreign_at(&self, at: Moment) -> f64 {
        self.foreign.at(at)
    }

    /// Which ejection is over by now, by its end; `None` while it lasts.
    pub(crate) fn ejection_ended(&self, at: Moment) -> Option<u64> {
        let until = self.ejected_until.load(Ordering::Acquire);
        (at.0 >= until).then_some(until)
    }

    /// How long its slow start has lasted. A start that nobody has timed is timed now.
    pub(crate) fn slow_for(&self, at: Moment) -> Duration {
        match self.slow_since.compare_exchange(0, at.0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Duration::ZERO,
            Err(since) => Duration::from_nanos(at.0.saturating_sub(since)),
        }
    }

    /// Its slow start is over, unless something about it changed since the flags were read.
    pub(crate) fn end_slow_start(&self, seen: Flags) {
        let ended = seen.0 & !SLOW;
        let _ = self.hot.flags.compare_exchange(seen.0, ended, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Whether a call that probes it keeps others away.
    pub(crate) fn is_probed(&self, at: Moment) -> bool {
        self.probed_until.load(Ordering::Acquire) > at.0
    }

    /// Takes the place of the one call that probes it. Returns until when, 0 for no probe at all; `None` if it is taken.
    fn claim_probe(&self, probes: u64, now: Instant) -> Option<u64> {
        if probes == 0 {
            return Some(0);
        }
        let (at, until) = (self.epoch.moment(now), self.epoch.moment(now + PROBE_TIME).0);
        let taken = self.probed_until.load(Ordering::Acquire);
        let free = taken <= at.0;
        let claim =
            || self.probed_until.compare_exchange(taken, until, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        (free && claim()).then_some(until)
    }

    /// The call that probed it until then keeps others away no longer.
    pub(crate) fn end_probe(&self, until: u64) {
        if until != 0 {
            let _ = self.probed_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Counts a call if there are fewer than `cap`, and takes the place of the probe if it is to be one (`probes` is
    /// not 0). Returns the guard and the count before it.
    pub(crate) fn reserve(self: &Arc<Self>, cap: u64, probes: u64, now: Instant) -> Option<(InFlight, u64)> {
        let in_flight = &self.hot.in_flight;
        let before = if cap == u64::MAX {
            in_flight.fetch_add(1, Ordering::Relaxed)
        } else {
            let below = |count| (count < cap).then(|| count + 1);
            in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?
        };
        let Some(probed_until) = self.claim_probe(probes, now) else {
            in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        Some((InFlight::reserved(Arc::clone(self), now, probes, probed_until), before))
    }

    /// The opposite of [`reserve`](Self::reserve).
    pub(crate) fn release(&self, probed_until: u64) {
        self.hot.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.end_probe(probed_until);
    }

    /// A probe of the ejection that ended at `probes` succeeded. A new ejection meanwhile stands.
    pub(crate) fn probe_succeeded(&self, probes: u64) {
        if probes != 0 && self.ejected_until.load(Ordering::Acquire) == probes && self.set(EJECTED, false) {
            // The next pick notes the time.
            self.slow_since.store(0, Ordering::Relaxed);
            self.set(SLOW, true);
        }
    }

    pub(crate) fn sample(&self, took: Duration, now: Instant) {
        self.hot.latency.sample(took, self.epoch.moment(now));
        self.answered(now);
    }

    /// It has shown that it serves.
    pub(crate) fn answered(&self, now: Instant) {
        self.answered.store(self.epoch.moment(now).0, Ordering::Relaxed);
    }

    /// Whether it has shown that since a time.
    #[must_use]
    pub fn has_answered_since(&self, began: Instant) -> bool {
        self.answered.load(Ordering::Relaxed) >= self.epoch.moment(began).0
    }

    /// Books a latency that it did not have, so that it attracts fewer calls.
    pub(crate) fn penalise(&self, penalty: Duration, now: Instant) {
        self.hot.latency.sample(penalty, self.epoch.moment(now));
    }

    pub(crate) fn count_call(&self) {
        self.hot.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}
