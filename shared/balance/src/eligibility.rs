//! Who may take a call: one judgement per backend, before any policy compares.

use std::{sync::Arc, time::Instant};

use crate::{
    backend::{
        Backend,
        flags::{DRAINING, EJECTED, FOREIGN, Flags, REFUSED, SLOW},
    },
    clock::Moment,
    health::Health,
    settings::Settings,
};

/// What a call asks of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Backends that this call has tried already; they are left out.
    pub tried: &'a [Arc<Backend>],
    /// What [`Policy::Rendezvous`](crate::Policy::Rendezvous) goes by, such as the [hash](crate::hash) of a chat's id.
    pub key: Option<u64>,
    /// The time.
    pub now: Instant,
}

impl Ask<'_> {
    /// The first attempt of a call without a key.
    #[must_use]
    pub const fn at(now: Instant) -> Self {
        Self { tried: &[], key: None, now }
    }
}

/// Why a pool gives no backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody is left that may be picked.
    #[error("no healthy backend")]
    NoneHealthy,
    /// Somebody is healthy, but everybody who is has as many calls as it may.
    #[error("all healthy backends are at their limit")]
    Full,
}

/// Why a pick leaves a backend out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftOut {
    /// An operator drains it.
    Draining,
    /// Its checks fail, or it refused a connection.
    Unhealthy,
    /// No check has finished yet, and others are known to be healthy.
    Unchecked,
    /// It is ejected.
    Ejected,
    /// Its ejection is over, and another call tries it.
    Probing,
    /// This call has tried it.
    Tried,
    /// It has as many calls in flight as it may.
    Full,
    /// The call goes to another tier.
    OtherTier,
    /// It has more than its share of the load.
    OverShare,
}

/// What kind of backend is looked for, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grade {
    /// Healthy, and not ejected.
    Healthy,
    /// Not checked yet.
    Unchecked,
    /// Ill, but reachable as far as is known.
    Ill,
}

/// A backend that may take the call, as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) in_flight: u64,
    pub(crate) foreign: f64,
    /// Its weight, less while it is in slow start.
    pub(crate) weight: f64,
    /// The most calls it may have in flight; `u64::MAX` for no limit.
    pub(crate) cap: u64,
    /// Which ejection a call to it would probe the end of; 0 if none.
    pub(crate) probes: u64,
}

impl Seen {
    /// What it would have in flight with this call.
    pub(crate) fn load(&self) -> f64 {
        // Signed, which is one instruction.
        self.in_flight.cast_signed() as f64 + self.foreign + 1.0
    }
}

/// What is asked of a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) tried: &'a [Arc<Backend>],
    pub(crate) at: Moment,
    /// Differs from pick to pick, but not between those of one key.
    lot: u64,
    grade: Grade,
    /// Only this tier; `None` for any.
    tier: Option<u8>,
    /// The limit of each backend; `u64::MAX` for none.
    cap: u64,
    /// Whether anybody healthy will do.
    plain: bool,
}

impl<'a> Rules<'a> {
    /// Any healthy backend that was not tried.
    pub(crate) const fn new(settings: &'a Settings, tried: &'a [Arc<Backend>], at: Moment, lot: u64) -> Self {
        let cap = if settings.max_in_flight == 0 { u64::MAX } else { settings.max_in_flight };
        Self { settings, tried, at, lot, grade: Grade::Healthy, tier: None, cap, plain: tried.is_empty() }
    }

    /// The same for another grade and tier.
    pub(crate) const fn narrowed(self, grade: Grade, tier: Option<u8>) -> Self {
        let plain = self.tried.is_empty() && matches!(grade, Grade::Healthy) && tier.is_none();
        Self { grade, tier, plain, ..self }
    }

    /// Whether a backend may take the call.
    #[inline(always)] // a call per backend is a third of what a pick costs
    pub(crate) fn judge(&self, backend: &Backend) -> Result<Seen, LeftOut> {
        let flags = backend.flags();
        let mut seen = Seen {
            in_flight: backend.in_flight(),
            foreign: 0.0,
            weight: backend.weight().into(),
            cap: self.cap,
            probes: 0,
        };
        if flags != Flags::PLAIN || !self.plain {
            self.look_closely(backend, flags, &mut seen)?;
        }
        if seen.in_flight >= seen.cap { Err(LeftOut::Full) } else { Ok(seen) }
    }

    /// For whatever is not just healthy, or a call that does not ask for just that.
    #[cold]
    fn look_closely(&self, backend: &Backend, flags: Flags, seen: &mut Seen) -> Result<(), LeftOut> {
        if self.tier.is_some_and(|tier| tier != backend.tier()) {
            return Err(LeftOut::OtherTier);
        }
        if self.tried.iter().any(|other| other.address() == backend.address()) {
            return Err(LeftOut::Tried);
        }
        seen.probes = self.admit(backend, flags)?;
        self.adjust(backend, flags, seen);
        Ok(())
    }

    /// Whether a backend is of the wanted grade, whatever its load. Returns the ejection whose end it waits to prove.
    pub(crate) fn admit(&self, backend: &Backend, flags: Flags) -> Result<u64, LeftOut> {
        if flags.has(DRAINING) {
            return Err(LeftOut::Draining);
        }
        match (self.grade, flags.health()) {
            (Grade::Ill, Health::Unhealthy) if flags.has(REFUSED) => return Err(LeftOut::Unhealthy),
            (Grade::Ill, Health::Unhealthy) => return Ok(0),
            (Grade::Ill, _) if flags.has(EJECTED) => return Ok(0),
            (_, Health::Unhealthy) => return Err(LeftOut::Unhealthy),
            (Grade::Healthy, Health::Unknown) => return Err(LeftOut::Unchecked),
            // A better grade was looked for before, so it is room that these lack.
            (Grade::Ill, _) => return Err(LeftOut::Full),
            (Grade::Unchecked, Health::Healthy) if !flags.has(EJECTED) => return Err(LeftOut::Full),
            _ => {}
        }
        if !flags.has(EJECTED) {
            return Ok(0);
        }
        let ended = backend.ejection_ended(self.at).ok_or(LeftOut::Ejected)?;
        if backend.is_probed(self.at) { Err(LeftOut::Probing) } else { Ok(ended) }
    }

    /// Takes slow start and foreign load into account.
    fn adjust(&self, backend: &Backend, flags: Flags, seen: &mut Seen) {
        if flags.has(FOREIGN) {
            seen.foreign = backend.foreign_at(self.at);
        }
        if !flags.has(SLOW) {
            return;
        }
        let Some(factor) = self.settings.slow_start.factor(backend.slow_for(self.at)) else {
            backend.end_slow_start(flags);
            return;
        };
        // In its share of the picks it takes part with its whole weight: a pool that is idle would otherwise give it
        // nothing to warm up with, since a lower weight loses every comparison of backends without calls.
        if fraction(self.lot ^ backend.hash()) >= factor {
            seen.weight *= factor;
        }
        if seen.cap != u64::MAX {
            seen.cap = ((seen.cap as f64 * factor).ceil() as u64).max(1);
        }
    }
}

/// Anything from 0 to 1, evenly, by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn fraction(seed: u64) -> f64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
