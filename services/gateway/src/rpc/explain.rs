//! The picks of the flight recorder, encoded.

use std::time::Instant;

use weft_balance::{Candidate, LeftOut, PickRecord, Reason, Standing};
use weft_proto::gateway::v1 as pb;

use super::encode_duration;

/// A pick as it looks at `now`.
pub(super) fn encode(pick: PickRecord, now: Instant) -> pb::Pick {
    pb::Pick {
        ticket: pick.ticket,
        age: Some(encode_duration(now.saturating_duration_since(pick.at))),
        policy: pick.policy.as_str().to_owned(),
        reason: encode_reason(pick.reason).into(),
        chosen: pick.chosen.unwrap_or_default(),
        tier: if let Reason::Overflow { tier } = pick.reason { tier.into() } else { 0 },
        tried: u32::try_from(pick.tried).unwrap_or(u32::MAX),
        candidates: pick.candidates.into_iter().map(encode_candidate).collect(),
        others: u32::try_from(pick.others).unwrap_or(u32::MAX),
    }
}

fn encode_candidate(candidate: Candidate) -> pb::Candidate {
    let standing = match candidate.standing {
        Standing::Score(score) => pb::candidate::Standing::Score(score),
        Standing::LeftOut(why) => pb::candidate::Standing::LeftOut(encode_left_out(why).into()),
    };
    pb::Candidate {
        address: candidate.address,
        in_flight: candidate.in_flight,
        foreign: candidate.foreign,
        weight: candidate.weight,
        standing: Some(standing),
    }
}

const fn encode_reason(reason: Reason) -> pb::PickReason {
    match reason {
        Reason::OnlyOne => pb::PickReason::OnlyOne,
        Reason::LeastLoad => pb::PickReason::LeastLoad,
        Reason::Tie => pb::PickReason::Tie,
        Reason::Sampled => pb::PickReason::Sampled,
        Reason::Turn => pb::PickReason::Turn,
        Reason::Rank => pb::PickReason::Rank,
        Reason::PassedOver => pb::PickReason::PassedOver,
        Reason::Overflow { .. } => pb::PickReason::Overflow,
        Reason::Probe => pb::PickReason::Probe,
        Reason::Panic => pb::PickReason::Panic,
        Reason::NoneHealthy => pb::PickReason::NoneHealthy,
        Reason::Full => pb::PickReason::Full,
    }
}

const fn encode_left_out(why: LeftOut) -> pb::LeftOut {
    match why {
        LeftOut::Draining => pb::LeftOut::Draining,
        LeftOut::Unhealthy => pb::LeftOut::Unhealthy,
        LeftOut::Unchecked => pb::LeftOut::Unchecked,
        LeftOut::Ejected => pb::LeftOut::Ejected,
        LeftOut::Probing => pb::LeftOut::Probing,
        LeftOut::Tried => pb::LeftOut::Tried,
        LeftOut::Full => pb::LeftOut::Full,
        LeftOut::OtherTier => pb::LeftOut::OtherTier,
        LeftOut::OverShare => pb::LeftOut::OverShare,
    }
}
