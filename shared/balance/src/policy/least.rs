//! The backend with the least score: a cost per call × the calls it would have in flight / its weight.
//!
//! Up to [`SCAN_LIMIT`] backends are scanned exactly, more are sampled by the power of two choices (Mitzenmacher,
//! 2001). Ties go round: a ticket decides among equals, so that equal backends get equal shares whatever else is busy.
//! Scores are quotients of whole numbers below 2³⁰, which a double tells apart exactly, unless slow start, foreign load
//! or latency is in them.
//!
//! Concurrent picks do not herd: a pick reserves first, then looks again, and moves on if others have made its choice
//! the worse one meanwhile (gRFC A48 accepts that race).

use crate::{
    backend::Backend,
    contest::{Contest, Picked},
    eligibility::Seen,
    recorder::Reason,
};

/// The most backends that are scanned exactly.
pub(crate) const SCAN_LIMIT: usize = 64;
/// How often a pick that lost a race looks again before it keeps what it has.
const RACES: usize = 4;
/// How often a sample is drawn before all backends are looked at.
const DRAWS: usize = 8;

/// A backend that won, as it was when it did.
struct Winner {
    index: usize,
    seen: Seen,
    score: f64,
    reason: Reason,
}

/// Picks by `cost`, which is what a call costs at a backend.
pub(crate) fn pick(contest: &mut Contest<'_>, cost: impl Fn(&Backend) -> f64) -> Option<Picked> {
    let exact = contest.backends().len() <= SCAN_LIMIT;
    for race in 0..=RACES {
        contest.trace.restart();
        let sampled = if exact { None } else { sample(contest, &cost) };
        let winner = match sampled {
            Some(winner) => winner,
            None => scan(contest, &cost)?,
        };
        let Winner { index, seen, score: least, reason } = winner;
        let Some((call, before)) = contest.reserve(index, &seen) else { continue };
        let mine = score(&Seen { in_flight: before, ..seen }, cost(&contest.backends()[index]));
        let settled = race == RACES || !exact || mine <= least;
        if settled || !beaten(contest, index, mine, &cost) {
            return Some(Picked { call, index, seen, score: least, reason });
        }
    }
    None
}

#[inline]
fn score(seen: &Seen, cost: f64) -> f64 {
    cost * seen.load() / seen.weight
}

/// The best of all.
#[inline]
fn scan(contest: &mut Contest<'_>, cost: &impl Fn(&Backend) -> f64) -> Option<Winner> {
    let (mut best, mut least) = (None, f64::INFINITY);
    // Which backends have the least score, as bits, and how many there are.
    let (mut ties, mut equals, mut eligible) = (0_u64, 0_u64, 0_usize);
    let list = contest.list;
    for (index, backend) in list.backends.iter().enumerate() {
        let seen = match contest.rules.judge(backend) {
            Ok(seen) => seen,
            Err(why) => {
                contest.trace.left_out(index, backend, why);
                continue;
            }
        };
        let score = score(&seen, cost(backend));
        contest.trace.candidate(index, &seen, score);
        eligible += 1;
        if score < least {
            (best, least, ties, equals) = (Some((index, seen)), score, bit(index), 1);
        } else if score <= least {
            (ties, equals) = (ties | bit(index), equals + 1);
        }
    }
    let reason = match (eligible, equals) {
        (1, _) => Reason::OnlyOne,
        (_, 1) => Reason::LeastLoad,
        _ => Reason::Tie,
    };
    if equals > 1 {
        // One that can take no call any more leaves it to the first of them.
        let turn = turn(contest, ties, equals);
        let judged = turn.and_then(|index| Some((index, contest.rules.judge(&list.backends[index]).ok()?)));
        best = judged.or(best);
    }
    best.map(|(index, seen)| Winner { index, seen, score: least, reason })
}

/// Whose turn it is among equals. Beyond the bits, which only few backends are when draws did not find two, any of the
/// first ones may have it.
fn turn(contest: &Contest<'_>, ties: u64, equals: u64) -> Option<usize> {
    let equals = equals.min(ties.count_ones().into());
    (equals > 0).then(|| nth_bit(ties, contest.ticket % equals))
}

const fn bit(index: usize) -> u64 {
    if index < SCAN_LIMIT { 1 << index } else { 0 }
}

/// The place of the bit that has `n` others below it.
fn nth_bit(mut bits: u64, n: u64) -> usize {
    for _ in 0..n {
        bits &= bits.wrapping_sub(1);
    }
    bits.trailing_zeros() as usize
}

/// The better of two random eligible backends; `None` when the draws find none.
fn sample(contest: &mut Contest<'_>, cost: &impl Fn(&Backend) -> f64) -> Option<Winner> {
    let mut random = fastrand::Rng::with_seed(contest.ticket);
    let list = contest.list;
    let mut draw = || {
        let drawn = (0..DRAWS).find_map(|_| {
            let index = random.usize(..list.backends.len());
            Some((index, contest.rules.judge(&list.backends[index]).ok()?))
        });
        let (index, seen) = drawn?;
        let score = score(&seen, cost(&list.backends[index]));
        contest.trace.candidate(index, &seen, score);
        Some((index, seen, score))
    };
    let (first, second) = (draw()?, draw()?);
    let (index, seen, score) = if second.2 < first.2 { second } else { first };
    Some(Winner { index, seen, score, reason: Reason::Sampled })
}

/// Whether another backend is by now strictly better than the one reserved.
fn beaten(contest: &Contest<'_>, index: usize, mine: f64, cost: &impl Fn(&Backend) -> f64) -> bool {
    let others = contest.backends().iter().enumerate().filter(|(other, _)| *other != index);
    others
        .filter_map(|(_, other)| contest.rules.judge(other).ok().map(|seen| score(&seen, cost(other))))
        .any(|score| score < mine)
}
