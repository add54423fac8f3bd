//! `weft gateway explain`: the last picks of a pool.

use std::time::Duration;

use serde::Serialize;
use weft_proto::gateway::v1 as pb;

use crate::{
    table::{Align, Cell, Table},
    terminal::{Paint, Tone},
    units,
};

/// One pick, as `--json` prints it; its keys only grow.
#[derive(Debug, Serialize)]
pub(super) struct Pick {
    ticket: u64,
    age_seconds: f64,
    policy: String,
    reason: String,
    /// `null` if it was refused.
    chosen: Option<String>,
    tried: u32,
    candidates: Vec<Candidate>,
    others: u32,
}

/// A backend as the pick saw it.
#[derive(Debug, Serialize)]
struct Candidate {
    address: String,
    in_flight: u64,
    foreign: f32,
    weight: f32,
    /// `null` if it was left out.
    score: Option<f32>,
    left_out: Option<String>,
}

impl Pick {
    pub(super) fn all(picks: Vec<pb::Pick>) -> Vec<Self> {
        picks.into_iter().map(Self::from).collect()
    }

    fn took(&self, candidate: &Candidate) -> bool {
        self.chosen.as_ref() == Some(&candidate.address)
    }

    /// How it ended, in words.
    fn outcome(&self) -> String {
        match &self.chosen {
            Some(_) => format!("chosen: {}", self.reason),
            None => format!("refused: {}", self.reason),
        }
    }
}

/// A table with a row for each candidate.
pub(super) fn text(picks: &[Pick], paint: Paint) -> String {
    if picks.is_empty() {
        return "no pick is recorded\n".to_owned();
    }
    let mut table = Table::new(&[
        ("pick", Align::Right),
        ("ago", Align::Right),
        ("backend", Align::Left),
        ("in flight", Align::Right),
        ("foreign", Align::Right),
        ("weight", Align::Right),
        ("score", Align::Right),
        ("outcome", Align::Left),
    ]);
    for pick in picks {
        let age = Duration::try_from_secs_f64(pick.age_seconds).unwrap_or_default();
        let mut head = [pick.ticket.to_string(), units::elapsed(age)];
        for candidate in &pick.candidates {
            table.row(row(std::mem::take(&mut head), candidate, pick));
        }
        if !pick.candidates.iter().any(|candidate| pick.took(candidate)) {
            table.row(unseen(head, pick));
        }
    }
    table.render(paint)
}

fn row([ticket, ago]: [String; 2], candidate: &Candidate, pick: &Pick) -> Vec<Cell> {
    let outcome = match &candidate.left_out {
        Some(why) => Cell::toned(Tone::Warn, format!("left out: {why}")),
        None if pick.took(candidate) => Cell::toned(Tone::Good, pick.outcome()),
        None => "".into(),
    };
    vec![
        ticket.into(),
        ago.into(),
        candidate.address.clone().into(),
        units::count(candidate.in_flight).into(),
        format!("{:.1}", candidate.foreign).into(),
        format!("{:.2}", candidate.weight).into(),
        candidate.score.map_or_else(String::new, |score| format!("{score:.4}")).into(),
        outcome,
    ]
}

/// The end of a pick that took none of the candidates shown.
fn unseen([ticket, ago]: [String; 2], pick: &Pick) -> Vec<Cell> {
    let tone = if pick.chosen.is_some() { Tone::Good } else { Tone::Bad };
    let backend = match (&pick.chosen, pick.others) {
        (Some(chosen), _) => chosen.clone(),
        (None, 0) => String::new(),
        (None, others) => format!("{others} more"),
    };
    let blank = || Cell::from("");
    let outcome = Cell::toned(tone, pick.outcome());
    vec![ticket.into(), ago.into(), backend.into(), blank(), blank(), blank(), blank(), outcome]
}

impl From<pb::Pick> for Pick {
    fn from(pick: pb::Pick) -> Self {
        let reason = words(pick.reason().as_str_name(), "PICK_REASON_");
        let reason = if pick.reason() == pb::PickReason::Overflow {
            format!("{reason} to tier {}", pick.tier)
        } else {
            reason
        };
        Self {
            ticket: pick.ticket,
            age_seconds: pick
                .age
                .and_then(|age| Duration::try_from(age).ok())
                .unwrap_or_default()
                .as_secs_f64(),
            policy: pick.policy,
            reason,
            chosen: Some(pick.chosen).filter(|chosen| !chosen.is_empty()),
            tried: pick.tried,
            candidates: pick.candidates.into_iter().map(Candidate::from).collect(),
            others: pick.others,
        }
    }
}

impl From<pb::Candidate> for Candidate {
    fn from(candidate: pb::Candidate) -> Self {
        let (score, left_out) = match candidate.standing {
            Some(pb::candidate::Standing::Score(score)) => (Some(score), None),
            Some(pb::candidate::Standing::LeftOut(why)) => {
                let why = pb::LeftOut::try_from(why).unwrap_or_default();
                (None, Some(words(why.as_str_name(), "LEFT_OUT_")))
            }
            None => (None, None),
        };
        let pb::Candidate { address, in_flight, foreign, weight, .. } = candidate;
        Self { address, in_flight, foreign, weight, score, left_out }
    }
}

/// The value of an enum, in words.
fn words(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks() -> Vec<Pick> {
        let candidate = |address: &str, in_flight: u64, standing| pb::Candidate {
            address: address.into(),
            in_flight,
            weight: 1.0,
            standing: Some(standing),
            ..Default::default()
        };
        let score = pb::candidate::Standing::Score;
        let left_out = |why: pb::LeftOut| pb::candidate::Standing::LeftOut(why.into());
        let won = pb::Pick {
            ticket: 12,
            age: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
            policy: "least_connections".into(),
            reason: pb::PickReason::LeastLoad.into(),
            chosen: "10.0.0.2:80".into(),
            candidates: vec![
                candidate("10.0.0.1:80", 4, score(5.0)),
                candidate("10.0.0.2:80", 0, score(1.0)),
                candidate("10.0.0.3:80", 0, left_out(pb::LeftOut::Ejected)),
            ],
            ..Default::default()
        };
        let refused = pb::Pick {
            ticket: 11,
            age: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            reason: pb::PickReason::NoneHealthy.into(),
            candidates: vec![candidate("10.0.0.1:80", 0, left_out(pb::LeftOut::Unhealthy))],
            ..Default::default()
        };
        let fell = pb::Pick {
            ticket: 10,
            age: Some(prost_types::Duration { seconds: 4, nanos: 0 }),
            reason: pb::PickReason::Overflow.into(),
            tier: 1,
            chosen: "10.0.0.9:80".into(),
            others: 1,
            ..Default::default()
        };
        Pick::all(vec![won, refused, fell])
    }

    #[test]
    fn a_person_sees_who_was_compared_and_why_one_won() {
        let text = text(&picks(), Paint::BARE);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1].join(" "), "12 2.0 s 10.0.0.1:80 4 0.0 1.00 5.0000");
        assert_eq!(rows[2].join(" "), "10.0.0.2:80 0 0.0 1.00 1.0000 chosen: least load");
        assert_eq!(rows[3].join(" "), "10.0.0.3:80 0 0.0 1.00 left out: ejected");
        assert_eq!(rows[4].join(" "), "11 3.0 s 10.0.0.1:80 0 0.0 1.00 left out: unhealthy");
        assert_eq!(rows[5].join(" "), "refused: none healthy");
        assert_eq!(rows[6].join(" "), "10 4.0 s 10.0.0.9:80 chosen: overflow to tier 1");
        assert_eq!(super::text(&[], Paint::BARE), "no pick is recorded\n");
    }

    #[test]
    fn a_program_reads_stable_keys() {
        let json = serde_json::to_value(picks()).unwrap();
        assert_eq!((&json[0]["ticket"], &json[0]["chosen"]), (&12.into(), &"10.0.0.2:80".into()));
        assert_eq!(json[0]["candidates"][0]["score"], 5.0);
        assert_eq!(json[0]["candidates"][2]["left_out"], "ejected");
        assert!(json[1]["chosen"].is_null());
    }
}
