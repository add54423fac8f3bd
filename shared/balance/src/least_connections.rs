//! Weighted least connections: the backend with the lowest `(in_flight + 1) / weight` after the pick.
//!
//! Up to [`SCAN_LIMIT`] backends are scanned exactly, more are sampled by the power of two choices (Mitzenmacher,
//! 2001). Ties go round: a ticket decides among equals, so that equal backends get equal shares whatever else is busy.
//!
//! Concurrent picks do not herd: a pick reserves first, then looks again, and moves on if others have made its choice
//! the worse one meanwhile (gRFC A48 accepts that race).

use std::sync::{Arc, atomic::Ordering};

use crate::{
    backend::{Backend, InFlight},
    health::Health,
};

/// The most backends that are scanned exactly.
pub(crate) const SCAN_LIMIT: usize = 64;
/// How often a pick that lost a race looks again before it keeps what it has.
const RACES: usize = 4;

/// Picks among `backends`, leaving out those in `tried`. `ticket` differs from pick to pick.
pub(crate) fn pick(backends: &[Arc<Backend>], tried: &[Arc<Backend>], ticket: usize) -> Option<InFlight> {
    let eligible = |wanted: Health| {
        move |backend: &Backend| {
            backend.health() == wanted
                && !backend.draining()
                && !tried.iter().any(|other| other.address() == backend.address())
        }
    };
    // Backends that no check has seen yet are better than none.
    pick_where(backends, ticket, eligible(Health::Healthy))
        .or_else(|| pick_where(backends, ticket, eligible(Health::Unknown)))
}

fn pick_where(
    backends: &[Arc<Backend>],
    ticket: usize,
    eligible: impl Fn(&Backend) -> bool,
) -> Option<InFlight> {
    for _ in 0..RACES {
        let (choice, seen) = choose(backends, ticket, &eligible)?;
        let before = choice.in_flight.fetch_add(1, Ordering::Relaxed);
        let reserved = InFlight::reserved(Arc::clone(choice));
        if before <= seen || !beaten(&reserved, backends, before, &eligible) {
            return Some(reserved);
        }
    }
    let (choice, _) = choose(backends, ticket, &eligible)?;
    choice.in_flight.fetch_add(1, Ordering::Relaxed);
    Some(InFlight::reserved(Arc::clone(choice)))
}

/// The best backend and the count it was chosen by.
fn choose<'a>(
    backends: &'a [Arc<Backend>],
    ticket: usize,
    eligible: &impl Fn(&Backend) -> bool,
) -> Option<(&'a Arc<Backend>, u64)> {
    if backends.len() > SCAN_LIMIT
        && let Some(found) = sample(backends, ticket, eligible)
    {
        return Some(found);
    }
    let mut best: Option<Load> = None;
    let mut ties = 0;
    for backend in backends.iter().filter(|backend| eligible(backend)) {
        let load = Load::of(backend);
        match best.map(|best| load.cmp(&best)) {
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Equal) => ties += 1,
            Some(std::cmp::Ordering::Less) | None => (best, ties) = (Some(load), 1),
        }
    }
    let best = best?;
    let mut turn = ticket % ties;
    let mut last = None;
    for backend in backends.iter().filter(|backend| eligible(backend)) {
        let load = Load::of(backend);
        if load.cmp(&best).is_le() {
            last = Some((backend, load.in_flight));
            if turn == 0 {
                return last;
            }
            turn -= 1;
        }
    }
    // Counts moved between the two passes: anything eligible will do, the race check follows.
    last.or_else(|| {
        backends.iter().find(|backend| eligible(backend)).map(|backend| (backend, backend.in_flight()))
    })
}

/// The better of two random eligible backends; `None` when the draws find none.
fn sample<'a>(
    backends: &'a [Arc<Backend>],
    ticket: usize,
    eligible: &impl Fn(&Backend) -> bool,
) -> Option<(&'a Arc<Backend>, u64)> {
    let mut random = fastrand::Rng::with_seed(ticket as u64);
    let mut draw =
        || (0..8).map(|_| &backends[random.usize(..backends.len())]).find(|backend| eligible(backend));
    let (first, second) = (draw()?, draw()?);
    let (a, b) = (Load::of(first), Load::of(second));
    Some(if b.cmp(&a).is_lt() { (second, b.in_flight) } else { (first, a.in_flight) })
}

/// Whether another backend is by now strictly better than the one reserved.
fn beaten(
    reserved: &InFlight,
    backends: &[Arc<Backend>],
    before: u64,
    eligible: &impl Fn(&Backend) -> bool,
) -> bool {
    let mine = Load { in_flight: before, weight: reserved.backend().weight() };
    backends
        .iter()
        .take(SCAN_LIMIT)
        .filter(|other| !Arc::ptr_eq(other, reserved.backend()) && eligible(other))
        .any(|other| Load::of(other).cmp(&mine).is_lt())
}

/// The load of a backend, compared as it would be after one more call.
#[derive(Clone, Copy)]
struct Load {
    in_flight: u64,
    weight: u32,
}

impl Load {
    fn of(backend: &Backend) -> Self {
        Self { in_flight: backend.in_flight(), weight: backend.weight() }
    }

    /// `(in_flight + 1) / weight` of both, cross-multiplied: exact, without division.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let mine = u128::from(self.in_flight + 1) * u128::from(other.weight);
        let theirs = u128::from(other.in_flight + 1) * u128::from(self.weight);
        mine.cmp(&theirs)
    }
}

#[cfg(test)]
mod tests;
