//! One pick: which backends are looked for, in which order, until one takes the call.
//!
//! Healthy ones first; of several tiers the one that the call falls to, then the next ones, then those before it. Then
//! backends that no check has seen yet. Then, in a panic, ill ones.

use std::{sync::Arc, time::Instant};

use crate::{
    backend::Backend,
    backends::list::{List, Tier},
    eligibility::{Ask, Grade, LeftOut, Refusal, Rules, Seen},
    in_flight::InFlight,
    policy,
    recorder::{Reason, Trace},
    tiers,
};

/// A backend that took the call.
pub(crate) struct Picked {
    pub(crate) call: InFlight,
    /// Its place in the list.
    pub(crate) index: usize,
    /// As it was when it won, and with what score.
    pub(crate) seen: Seen,
    pub(crate) score: f64,
    pub(crate) reason: Reason,
}

/// A pick under way.
pub(crate) struct Contest<'a> {
    pub(crate) list: &'a List,
    pub(crate) rules: Rules<'a>,
    /// Differs from pick to pick.
    pub(crate) ticket: u64,
    pub(crate) trace: Trace<'a>,
    now: Instant,
    /// The tier looked at, by its place.
    place: usize,
}

impl<'a> Contest<'a> {
    pub(crate) const fn new(
        list: &'a List,
        rules: Rules<'a>,
        now: Instant,
        ticket: u64,
        trace: Trace<'a>,
    ) -> Self {
        Self { list, rules, ticket, trace, now, place: 0 }
    }

    pub(crate) fn backends(&self) -> &'a [Arc<Backend>] {
        &self.list.backends
    }

    /// The tier that is looked at.
    pub(crate) fn tier(&self) -> &'a Tier {
        &self.list.tiers[self.place]
    }

    /// Gives the call to a backend, if that still has room.
    pub(crate) fn reserve(&self, index: usize, seen: &Seen) -> Option<(InFlight, u64)> {
        self.backends()[index].reserve(seen.cap, seen.probes, self.now)
    }

    /// Picks. Whatever comes of it is recorded.
    pub(crate) fn run(mut self, ask: &Ask<'_>) -> Result<InFlight, Refusal> {
        let picked = self
            .of_grade(Grade::Healthy, ask.key)
            .or_else(|| self.of_grade(Grade::Unchecked, ask.key))
            .or_else(|| self.in_panic(ask.key));
        let Some(Picked { call, index, seen, score, reason }) = picked else {
            let (refusal, reason) = if self.is_full() {
                (Refusal::Full, Reason::Full)
            } else {
                (Refusal::NoneHealthy, Reason::NoneHealthy)
            };
            self.trace.finish(None, reason);
            return Err(refusal);
        };
        call.backend().count_call();
        self.trace.chosen(index, &seen, score);
        self.trace.finish(Some(index), if call.is_probe() { Reason::Probe } else { reason });
        Ok(call)
    }

    fn of_grade(&mut self, grade: Grade, key: Option<u64>) -> Option<Picked> {
        self.rules = self.rules.narrowed(grade, None);
        let tiers = &self.list.tiers;
        if let [_] = **tiers {
            return policy::pick(self, key);
        }
        let first = tiers::choose(self.list, &self.rules, self.ticket)?;
        let picked = (first..tiers.len()).chain(0..first).find_map(|place| {
            self.place = place;
            self.rules = self.rules.narrowed(grade, Some(tiers[place].level));
            policy::pick(self, key)
        });
        let place = std::mem::take(&mut self.place);
        let overflow = |picked: Picked| match place {
            0 => picked,
            _ => Picked { reason: Reason::Overflow { tier: tiers[place].level }, ..picked },
        };
        picked.map(overflow)
    }

    /// Picks an ill backend, if so few are well that they are not to be left alone with all calls, and none of them has
    /// room. Never one that refused a connection: it cannot help.
    fn in_panic(&mut self, key: Option<u64>) -> Option<Picked> {
        let panic = &self.rules.settings.panic;
        if self.list.backends.len() < panic.min_backends {
            return None;
        }
        // A backend that this call has tried counts as having room: it is healthy, and others may use it.
        let well = Rules::new(self.rules.settings, &[], self.rules.at, self.ticket);
        let (mut available, mut total) = (0_u32, 0_u32);
        for backend in self.backends() {
            match well.judge(backend) {
                Ok(_) => return None,
                Err(LeftOut::Draining) => continue,
                Err(LeftOut::Full) => available += 1,
                Err(_) => {}
            }
            total += 1;
        }
        if f64::from(available) >= panic.threshold * f64::from(total) {
            return None;
        }
        self.rules = self.rules.narrowed(Grade::Ill, None);
        let picked = policy::pick(self, key)?;
        Some(Picked { reason: Reason::Panic, ..picked })
    }

    /// Whether a healthy backend that was not tried lacks room, and nothing else.
    fn is_full(&self) -> bool {
        let well = self.rules.narrowed(Grade::Healthy, None);
        self.backends().iter().any(|backend| matches!(well.judge(backend), Err(LeftOut::Full)))
    }
}

#[cfg(test)]
mod tests;
