//! One backend's way out of rotation and back.

use std::time::{Duration, Instant};

use super::{LONGEST, Settings, Trip, window::Window};
use crate::verdict::{Blame, Verdict};

/// Where a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In rotation.
    Serving {
        /// How far the ejections had grown by then; one less for every whole window since.
        n: u32,
        /// Since when.
        since: Instant,
    },
    /// Out, without exception, until a time; then until a call comes to probe it.
    Ejected {
        /// Until when.
        until: Instant,
        /// Which ejection in close succession this is, from 1.
        n: u32,
    },
    /// Out but for one call.
    Probing {
        /// When another call may probe it, should that one not have ended: a stream may take long, and a verdict may
        /// be lost.
        until: Instant,
        /// The ejection that this is to end.
        n: u32,
    },
}

/// Whether a backend may be given a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Serve,
    /// Yes, this one, to see whether it is well again; its verdict goes to [`Detector::probed`].
    Probe,
    /// No.
    Refuse,
}

/// Watches one backend. Every attempt's verdict goes to [`observe`](Self::observe), or, if it was let through as a
/// probe, to [`probed`](Self::probed).
#[derive(Clone, Debug)]
pub struct Detector {
    settings: Settings,
    state: State,
    consecutive: u32,
    window: Window,
}

impl Detector {
    /// In rotation, with nothing against it.
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        let state = State::Serving { n: 0, since: now };
        Self { settings, state, consecutive: 0, window: Window::new(settings.window, now) }
    }

    /// Judges by other settings from now on. What is known of the window stays, unless its length changes.
    pub fn configure(&mut self, settings: Settings, now: Instant) {
        if settings.window != self.settings.window {
            self.window = Window::new(settings.window, now);
        }
        self.settings = settings;
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it is out of rotation, probed or not.
    #[must_use]
    pub const fn is_ejected(&self) -> bool {
        !matches!(self.state, State::Serving { .. })
    }

    /// Takes the verdict on a call. `Some` says that the backend should go: ask [`Settings::may_eject`], then
    /// [`eject`](Self::eject). If it may not, it goes on serving, and its next failure asks again.
    ///
    /// Hard failures count as one, overloaded answers as half and never in a row; a caller's error is a success of the
    /// backend, and what is nobody's fault says nothing. Calls that were under way when it was ejected say nothing
    /// either.
    pub fn observe(&mut self, verdict: &Verdict, now: Instant) -> Option<Trip> {
        if self.is_ejected() {
            return None;
        }
        match verdict.blame {
            Blame::Success | Blame::Caller => {
                self.consecutive = 0;
                self.window.record(2, now);
                return None;
            }
            Blame::Nobody => return None,
            Blame::Overloaded => self.window.record(1, now),
            Blame::Failed => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.window.record(0, now);
                let limit = self.settings.consecutive_failures;
                if limit > 0 && self.consecutive >= limit {
                    return Some(Trip::ConsecutiveFailures);
                }
            }
        }
        let counts = self.window.counts(now);
        let enough = counts.calls >= u64::from(self.settings.min_calls);
        (enough && counts.success_rate() < self.settings.success_rate_below).then_some(Trip::SuccessRate)
    }

    /// Takes it out. Returns for how long, or `None` if it was out already. `random` is any number.
    pub fn eject(&mut self, now: Instant, random: u32) -> Option<Duration> {
        let State::Serving { n, since } = self.state else { return None };
        let healthy =
            now.saturating_duration_since(since).as_nanos() / self.settings.window.as_nanos().max(1);
        let n = n.saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX));
        Some(self.go(self.longer(n), now, random))
    }

    /// Asks for a call. The answer may be the one probe that is allowed, so ask only for a backend that will get it.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Serving { .. } => Admission::Serve,
            State::Ejected { until, n } | State::Probing { until, n } if now >= until => {
                let lease = self.settings.base_ejection.clamp(Duration::from_secs(1), LONGEST);
                self.state = State::Probing { until: now + lease, n };
                Admission::Probe
            }
            State::Ejected { .. } | State::Probing { .. } => Admission::Refuse,
        }
    }

    /// Takes the verdict on a probe. Success, and be it a caller's error, brings the backend back with a clean slate; a
    /// hard failure ejects it again for longer, an overloaded answer for as long as before; what says nothing of the
    /// backend lets the next call probe it at once. `random` is any number.
    ///
    /// A probe that ends after another one has decided is a call like any other: `Some` as in
    /// [`observe`](Self::observe).
    pub fn probed(&mut self, verdict: &Verdict, now: Instant, random: u32) -> Option<Trip> {
        let State::Probing { n, .. } = self.state else { return self.observe(verdict, now) };
        match verdict.blame {
            Blame::Success | Blame::Caller => self.readmit(now),
            Blame::Failed => {
                self.go(self.longer(n), now, random);
            }
            Blame::Overloaded => {
                self.go(n, now, random);
            }
            Blame::Nobody => self.state = State::Ejected { until: now, n },
        }
        None
    }

    /// Puts it back into rotation with a clean slate, but remembers how far its ejections had grown. For a pool whose
    /// other backends have gone: it must not wait for a probe when there is nothing else.
    pub fn readmit(&mut self, now: Instant) {
        let (State::Ejected { n, .. } | State::Probing { n, .. }) = self.state else { return };
        self.state = State::Serving { n, since: now };
    }

    fn longer(&self, n: u32) -> u32 {
        if n == 0 || self.settings.grows(n) { n.saturating_add(1) } else { n }
    }

    fn go(&mut self, n: u32, now: Instant, random: u32) -> Duration {
        let time = self.settings.ejection_time(n, random);
        // Nothing is counted while it is out, so it will return with a clean slate.
        self.consecutive = 0;
        self.window.clear();
        self.state = State::Ejected { until: now + time, n };
        time
    }
}
