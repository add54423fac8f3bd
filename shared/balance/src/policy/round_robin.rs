//! Weighted round robin, spread evenly over the round and shared by all threads without a lock.
//!
//! Stride scheduling (Waldspurger and Weihl, 1995): every backend has a place on one time line, a call moves it on by
//! its stride, `1 / weight`, and the one whose middle of the stride comes first is next. By the middle, because then
//! after any number of calls the counts are Sainte-Laguë's apportionment of it: 5:1:1 gives a a a b c a a. nginx's
//! smooth rounds have the same spread, but need all backends changed as one step.
//!
//! A backend that was away does not catch up: it starts where the round is.

use std::sync::atomic::Ordering;

use crate::{
    contest::{Contest, Picked},
    eligibility::Seen,
    recorder::Reason,
};

/// The stride of weight 1: fine enough for weights to 1000 and to run for years.
const STRIDE: f64 = (1_u64 << 20) as f64;
/// How often a pick that lost a race looks again.
const RACES: usize = 64;

/// Picks the one whose turn it is.
pub(crate) fn pick(contest: &mut Contest<'_>) -> Option<Picked> {
    for _ in 0..RACES {
        contest.trace.restart();
        let turn = next(contest)?;
        let backend = &contest.backends()[turn.index];
        let moved = backend.pass().compare_exchange(
            turn.before,
            turn.middle + turn.half,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if moved.is_err() {
            continue;
        }
        turn_round(contest, turn.middle);
        let Turn { index, seen, distance, eligible, .. } = turn;
        if let Some((call, _)) = contest.reserve(index, &seen) {
            let reason = if eligible == 1 { Reason::OnlyOne } else { Reason::Turn };
            return Some(Picked { call, index, seen, score: distance, reason });
        }
    }
    None
}

struct Turn {
    index: usize,
    seen: Seen,
    /// Where it stood.
    before: u64,
    /// The middle of the stride it takes, and half of its length.
    middle: u64,
    half: u64,
    /// How far away it is, in strides of weight 1.
    distance: f64,
    eligible: usize,
}

fn next(contest: &mut Contest<'_>) -> Option<Turn> {
    let round = contest.tier().round.load(Ordering::Relaxed);
    let mut next: Option<Turn> = None;
    let mut eligible = 0;
    let list = contest.list;
    for (index, backend) in list.backends.iter().enumerate() {
        let seen = match contest.rules.judge(backend) {
            Ok(seen) => seen,
            Err(why) => {
                contest.trace.left_out(index, backend, why);
                continue;
            }
        };
        eligible += 1;
        let half = (STRIDE / seen.weight) as u64 / 2;
        let before = backend.pass().load(Ordering::Relaxed);
        let middle = (before + half).max(round);
        let distance = middle.saturating_sub(round) as f64 / STRIDE;
        contest.trace.candidate(index, &seen, distance);
        if next.as_ref().is_none_or(|next| middle < next.middle) {
            next = Some(Turn { index, seen, before, middle, half, distance, eligible: 0 });
        }
    }
    next.map(|next| Turn { eligible, ..next })
}

fn turn_round(contest: &Contest<'_>, to: u64) {
    let round = &contest.tier().round;
    // Most turns of equals are at the same place: nothing to write.
    if round.load(Ordering::Relaxed) < to {
        round.fetch_max(to, Ordering::Relaxed);
    }
}
