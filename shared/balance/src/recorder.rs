//! The flight recorder: the last picks, with who was compared and why one won.
//!
//! A ring of slots made in advance. A pick writes into the slot of its ticket while it looks at the backends, so that
//! nothing is read twice and nothing is allocated; a slot that somebody holds, such as a reader, is passed over.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Instant,
};

use crate::{
    backend::Backend,
    backends::list::List,
    eligibility::{LeftOut, Seen},
    settings::Policy,
};

/// The most candidates that are kept of one pick.
pub const RECORDED_CANDIDATES: usize = 16;

/// Why a pick ended as it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Only one might take the call.
    OnlyOne,
    /// It had the least score.
    LeastLoad,
    /// It had the least score, like others, and it was its turn among them.
    Tie,
    /// It had the better score of two drawn at random.
    Sampled,
    /// Its turn in the round.
    Turn,
    /// The key ranks it first.
    Rank,
    /// The key ranks others higher, which had more than their share of the load.
    PassedOver,
    /// The call fell to a tier other than the first, by its share or because those before had no room.
    Overflow {
        /// The tier that took it.
        tier: u8,
    },
    /// Its ejection is over, and this call tries it.
    Probe,
    /// Nobody healthy had room, and so few were healthy that an ill one was tried.
    Panic,
    /// Refused: nobody is healthy.
    #[default]
    NoneHealthy,
    /// Refused: nobody healthy has room.
    Full,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyOne => f.write_str("only one"),
            Self::LeastLoad => f.write_str("least load"),
            Self::Tie => f.write_str("tie"),
            Self::Sampled => f.write_str("better of two"),
            Self::Turn => f.write_str("turn"),
            Self::Rank => f.write_str("first of the key"),
            Self::PassedOver => f.write_str("bounded load passed over"),
            Self::Overflow { tier } => write!(f, "overflow to tier {tier}"),
            Self::Probe => f.write_str("probe after ejection"),
            Self::Panic => f.write_str("panic"),
            Self::NoneHealthy => f.write_str("none healthy"),
            Self::Full => f.write_str("full"),
        }
    }
}

/// One pick, as it was.
#[derive(Clone, Debug)]
pub struct PickRecord {
    /// The number of the pick; later ones are higher.
    pub ticket: u64,
    /// When.
    pub at: Instant,
    /// The pool's policy.
    pub policy: Policy,
    /// Why it ended as it did.
    pub reason: Reason,
    /// The address of the backend that got the call.
    pub chosen: Option<String>,
    /// The backends that the call had tried before.
    pub tried: usize,
    /// The backends that were looked at, at most [`RECORDED_CANDIDATES`], the one that won among them.
    pub candidates: Vec<Candidate>,
    /// How many backends more the pool had.
    pub others: usize,
}

/// A backend as a pick saw it, before the call was given to anybody.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// `host:port`.
    pub address: String,
    /// Calls of ours in flight.
    pub in_flight: u64,
    /// Calls of others, as it reported them.
    pub foreign: f32,
    /// Its weight, less in slow start; 0 if it was left out.
    pub weight: f32,
    /// What the policy compared, or why it did not.
    pub standing: Standing,
}

/// How a candidate stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Its score. Least connections and peak EWMA take the least (the latter in seconds), round robin the one whose
    /// turn is nearest, rendezvous the highest.
    Score(f32),
    /// It was not compared.
    LeftOut(LeftOut),
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Recorder {
    slots: Box<[Mutex<Slot>]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Whose backends the indexes mean. Kept until another list is recorded here.
    list: Option<Arc<List>>,
    ticket: u64,
    at: Option<Instant>,
    reason: Reason,
    chosen: Option<u32>,
    tried: u32,
    len: usize,
    candidates: [Noted; RECORDED_CANDIDATES],
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    index: u32,
    in_flight: u32,
    foreign: f32,
    weight: f32,
    standing: Standing,
}

impl Default for Noted {
    fn default() -> Self {
        Self { index: 0, in_flight: 0, foreign: 0.0, weight: 0.0, standing: Standing::Score(0.0) }
    }
}

impl Recorder {
    /// Room for `size` picks, rounded up to a power of two; 0 records nothing.
    pub(crate) fn new(size: usize) -> Self {
        let size = if size == 0 { 0 } else { size.next_power_of_two() };
        Self { slots: (0..size).map(|_| Mutex::default()).collect() }
    }

    /// Begins the record of a pick.
    pub(crate) fn trace(&self, ticket: u64, list: &Arc<List>, now: Instant, tried: usize) -> Trace<'_> {
        let Some(last) = self.slots.len().checked_sub(1) else { return Trace { slot: None } };
        let mut slot = match self.slots[ticket as usize & last].try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Trace { slot: None },
        };
        if !slot.list.as_ref().is_some_and(|known| Arc::ptr_eq(known, list)) {
            slot.list = Some(Arc::clone(list));
        }
        slot.ticket = ticket;
        // Set when the pick has ended: one that a panic cut short is not shown.
        slot.at = None;
        slot.tried = tried as u32;
        slot.len = 0;
        Trace { slot: Some((slot, now)) }
    }

    /// The picks that are still there, newest first.
    pub(crate) fn recorded(&self) -> Vec<PickRecord> {
        let read = |slot: &Mutex<Slot>| slot.lock().unwrap_or_else(PoisonError::into_inner).read();
        let mut records: Vec<PickRecord> = self.slots.iter().filter_map(read).collect();
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.ticket));
        records
    }
}

impl Slot {
    fn read(&self) -> Option<PickRecord> {
        let (list, at) = (self.list.as_ref()?, self.at?);
        let address = |index: u32| list.backends.get(index as usize).map(|b| b.address().to_owned());
        let candidates = self.candidates.iter().take(self.len).filter_map(|noted| {
            Some(Candidate {
                address: address(noted.index)?,
                in_flight: noted.in_flight.into(),
                foreign: noted.foreign,
                weight: noted.weight,
                standing: noted.standing,
            })
        });
        Some(PickRecord {
            ticket: self.ticket,
            at,
            policy: list.settings.policy,
            reason: self.reason,
            chosen: self.chosen.and_then(address),
            tried: self.tried as usize,
            candidates: candidates.collect(),
            others: list.backends.len().saturating_sub(self.len),
        })
    }
}

/// The record of a pick that is under way.
pub(crate) struct Trace<'a> {
    slot: Option<(MutexGuard<'a, Slot>, Instant)>,
}

impl Trace<'_> {
    /// Forgets the candidates: the pick looks again.
    #[inline]
    pub(crate) fn restart(&mut self) {
        if let Some((slot, _)) = &mut self.slot {
            slot.len = 0;
        }
    }

    /// Notes a backend that is compared.
    #[inline]
    pub(crate) fn candidate(&mut self, index: usize, seen: &Seen, score: f64) {
        self.note(|| Noted {
            index: index as u32,
            in_flight: seen.in_flight as u32,
            foreign: seen.foreign as f32,
            weight: seen.weight as f32,
            standing: Standing::Score(score as f32),
        });
    }

    /// Notes the one that won, in place of another if there are too many.
    pub(crate) fn chosen(&mut self, index: usize, seen: &Seen, score: f64) {
        let Some((slot, _)) = &mut self.slot else { return };
        let noted = slot.candidates.iter().take(slot.len).any(|noted| noted.index as usize == index);
        if !noted && slot.len == RECORDED_CANDIDATES {
            slot.len -= 1;
            self.candidate(index, seen, score);
        }
    }

    /// Notes a backend that is not.
    #[inline]
    pub(crate) fn left_out(&mut self, index: usize, backend: &Backend, why: LeftOut) {
        self.note(|| Noted {
            index: index as u32,
            in_flight: backend.in_flight() as u32,
            standing: Standing::LeftOut(why),
            ..Noted::default()
        });
    }

    #[inline]
    fn note(&mut self, noted: impl FnOnce() -> Noted) {
        let Some((slot, _)) = &mut self.slot else { return };
        let len = slot.len;
        if let Some(place) = slot.candidates.get_mut(len) {
            *place = noted();
            slot.len = len + 1;
        }
    }

    /// Ends the record.
    pub(crate) fn finish(&mut self, chosen: Option<usize>, reason: Reason) {
        if let Some((slot, now)) = &mut self.slot {
            slot.at = Some(*now);
            slot.chosen = chosen.map(|index| index as u32);
            slot.reason = reason;
        }
    }
}

#[cfg(test)]
mod tests;
