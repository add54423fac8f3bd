//! Priority tiers: which one a call goes to.
//!
//! A tier takes `min(1, overprovisioning × available / total)` of the calls, and what is left goes on to the next one,
//! in order; where all tiers together take less than everything, each takes its share of the sum. That is Envoy's
//! priority formula.

use crate::{
    backends::list::{List, Tier},
    eligibility::Rules,
};

/// Which tier this pick starts with, by its place in `list.tiers`; `None` when no tier has anybody available.
pub(crate) fn choose(list: &List, rules: &Rules<'_>, ticket: u64) -> Option<usize> {
    let mut available = [0_u32; 256];
    for backend in list.backends.iter().filter(|backend| rules.admit(backend, backend.flags()).is_ok()) {
        available[usize::from(backend.tier())] += 1;
    }
    let overprovisioning = rules.settings.overprovisioning.max(1.0);
    let health = |tier: &Tier| {
        let available = f64::from(available[usize::from(tier.level)]);
        (overprovisioning * available / tier.total.max(1) as f64).min(1.0)
    };
    let sum: f64 = list.tiers.iter().map(health).sum();
    if sum <= 0.0 {
        return None;
    }
    let (mut taken, point) = (0.0, spread(ticket));
    let mut last = None;
    for (place, tier) in list.tiers.iter().enumerate() {
        let share = health(tier) / sum.min(1.0);
        if share > 0.0 {
            last = Some(place);
        }
        taken += share;
        if point < taken {
            return Some(place);
        }
    }
    last
}

/// A number from 0 to 1 for each ticket, spread evenly over any run of them: multiples of the golden ratio (Weyl).
fn spread(ticket: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    (ticket.wrapping_mul(GOLDEN) >> 11) as f64 / (1_u64 << 53) as f64
}
