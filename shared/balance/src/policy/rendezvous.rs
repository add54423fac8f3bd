//! Weighted rendezvous hashing with bounded load: a key stays with its backend while that has no more than its share.
//!
//! Every backend draws a number from the key and its address; the highest `weight / -ln(draw)` wins (Thaler and
//! Ravishankar, 1998; weighted by Schindelhauer and Schomaker, 2005). A backend that comes or goes moves only its own
//! keys, and a changed weight only the difference. Numbers depend on nothing but key and address, so all gateways agree.
//!
//! The load is bounded as in Mirrokni, Thorup and Zadimoghaddam, 2018: nobody takes a call that would bring it above
//! `ceil(factor × its share of the weights × all calls in flight, this one included)`; the call goes to the key's next.

use crate::{
    contest::{Contest, Picked},
    eligibility::{LeftOut, Seen},
    recorder::Reason,
};

/// How often a pick that lost a race looks again before it keeps what it has.
const RACES: usize = 4;

/// A stable 64-bit hash of bytes, for the keys of [`Policy::Rendezvous`](crate::Policy::Rendezvous): FNV-1a, finished by
/// a mixer. The same in every process and version.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    mix(bytes.iter().fold(0xCBF2_9CE4_8422_2325, fnv))
}

/// Picks the key's highest ranked backend that is within its bound.
pub(crate) fn pick(contest: &mut Contest<'_>, key: u64) -> Option<Picked> {
    for race in 0..=RACES {
        contest.trace.restart();
        let bound = Bound::of(contest)?;
        let ranked = rank(contest, key, &bound)?;
        let Some((call, before)) = contest.reserve(ranked.index, &ranked.seen) else { continue };
        let after = Seen { in_flight: before, ..ranked.seen };
        if race == RACES || bound.allows(&after) {
            let Ranked { index, seen, rank, reason } = ranked;
            return Some(Picked { call, index, seen, score: rank, reason });
        }
    }
    None
}

/// How much a backend may have in flight, per weight.
struct Bound(f64);

impl Bound {
    fn of(contest: &Contest<'_>) -> Option<Self> {
        let (mut load, mut weight) = (1.0, 0.0);
        for seen in contest.backends().iter().filter_map(|backend| contest.rules.judge(backend).ok()) {
            load += seen.load() - 1.0;
            weight += seen.weight;
        }
        let factor = contest.rules.settings.bounded_load.max(1.0);
        (weight > 0.0).then(|| Self(factor * load / weight))
    }

    fn allows(&self, seen: &Seen) -> bool {
        // A whole product must not become the next number by the last bit of a rounding.
        // Not `ceil`, which is a call into libm on a plain x86-64.
        let most = self.0 * seen.weight - 1e-9;
        seen.load() < most + 1.0
    }
}

struct Ranked {
    index: usize,
    seen: Seen,
    rank: f64,
    reason: Reason,
}

fn rank(contest: &mut Contest<'_>, key: u64, bound: &Bound) -> Option<Ranked> {
    // The first of all, and the first of those within the bound.
    let (mut first, mut highest) = (None, 0.0);
    let (mut within, mut highest_within) = (None, 0.0);
    let mut eligible = 0_usize;
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
        let rank = seen.weight / exponential(mix(key ^ backend.hash()));
        if rank > highest {
            (first, highest) = (Some((index, seen)), rank);
        }
        if !bound.allows(&seen) {
            contest.trace.left_out(index, backend, LeftOut::OverShare);
            continue;
        }
        contest.trace.candidate(index, &seen, rank);
        if rank > highest_within {
            (within, highest_within) = (Some((index, seen)), rank);
        }
    }
    // Somebody is always within the bound, unless counts moved since it was drawn.
    let first = first?;
    let ((index, seen), rank) = within.map_or((first, highest), |within| (within, highest_within));
    let reason = match eligible {
        1 => Reason::OnlyOne,
        _ if index == first.0 => Reason::Rank,
        _ => Reason::PassedOver,
    };
    Some(Ranked { index, seen, rank, reason })
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// `-ln` of a draw from (0, 1]: exponentially distributed, and above 0. Own arithmetic, because libm differs in its
/// last bits from one platform to the next, and gateways have to agree. No branches: a draw is not to be foreseen.
#[inline]
fn exponential(bits: u64) -> f64 {
    let draw = ((bits >> 11) + 1).cast_signed() as f64 / (1_u64 << 53) as f64;
    let raw = draw.to_bits();
    let exponent = (raw >> 52).cast_signed() - 1023;
    let mantissa = f64::from_bits(raw & ((1 << 52) - 1) | 1023 << 52);
    // ln(m) = 2 artanh((m - 1) / (m + 1)), and s is at most a third.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let q = s * s;
    let tail = 1.0 / 11.0 + q * (1.0 / 13.0 + q * (1.0 / 15.0));
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * tail))));
    (-(exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series)).max(1e-12)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hashes_are_the_same_everywhere() {
        // Two gateways of different builds must send a chat to the same replica.
        assert_eq!(hash(b""), mix(0xCBF2_9CE4_8422_2325));
        assert_eq!(hash(b"a"), mix(0xAF63_DC4C_8601_EC8C), "FNV-1a of \"a\" as published");
        assert_ne!(hash(b"chat-1"), hash(b"chat-2"));
    }

    proptest! {
        #[test]
        fn the_logarithm_is_close(bits in any::<u64>()) {
            let draw = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            let exact = -draw.ln();
            prop_assert!((exponential(bits) - exact.max(1e-12)).abs() < 1e-8, "{draw}");
        }
    }
}
