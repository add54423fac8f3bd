//! The policies: each picks one of those that may take a call. What may take one is decided before, in one place.

mod least;
pub(crate) mod peak_ewma;
pub(crate) mod rendezvous;
mod round_robin;

use crate::{
    contest::{Contest, Picked},
    settings::Policy,
};

/// Lets the pool's policy pick. `None` when nobody may take the call, or the last who may has just been taken.
pub(crate) fn pick(contest: &mut Contest<'_>, key: Option<u64>) -> Option<Picked> {
    match (contest.rules.settings.policy, key) {
        (Policy::RoundRobin, _) => round_robin::pick(contest),
        (Policy::PeakEwma, _) => peak_ewma::pick(contest),
        (Policy::Rendezvous, Some(key)) => rendezvous::pick(contest, key),
        (Policy::LeastConnections, _) | (Policy::Rendezvous, None) => least::pick(contest, |_| 1.0),
    }
}

#[cfg(test)]
mod tests;
