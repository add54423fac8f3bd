//! What came of a load.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::call::{Answer, Ending};

/// What came of all calls but those of the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Calls made.
    pub calls: u64,
    /// Those that ended with status 0.
    pub ok: u64,
    /// The others by how they ended: `grpc_14`, `http_504`, `reset`, `broken` (no connection, or it broke), `timeout`.
    pub failed: BTreeMap<String, u64>,
    /// From the time that each was due to its end; calls that ended well only.
    pub latency: Quantiles,
    /// The same without the service time that each asked for.
    pub added: Quantiles,
    /// Calls by who answered them, be it with a failure.
    pub backends: BTreeMap<String, u64>,
}

/// Milliseconds that this part of the calls took at most, by nearest rank; 0 without calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)] // their names say it
pub struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Gathers endings; 16 bytes for each call.
#[derive(Debug, Default)]
pub(super) struct Tally {
    endings: BTreeMap<Ending, u64>,
    latencies: Vec<f64>,
    added: Vec<f64>,
    backends: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn record(&mut self, answer: Answer, latency: Duration, service: Duration) {
        *self.endings.entry(answer.ending).or_default() += 1;
        if let Some(backend) = answer.backend {
            *self.backends.entry(backend).or_default() += 1;
        }
        if answer.ending == Ending::Ok {
            self.latencies.push(latency.as_secs_f64() * 1e3);
            self.added.push(latency.saturating_sub(service).as_secs_f64() * 1e3);
        }
    }

    pub(super) fn report(mut self) -> Report {
        let calls = self.endings.values().sum();
        let ok = self.endings.remove(&Ending::Ok).unwrap_or_default();
        Report {
            calls,
            ok,
            failed: self.endings.iter().map(|(ending, calls)| (ending.to_string(), *calls)).collect(),
            latency: Quantiles::of(self.latencies),
            added: Quantiles::of(self.added),
            backends: self.backends,
        }
    }
}

impl Report {
    /// As one object, with the share of each backend.
    #[must_use]
    pub fn json(&self) -> Value {
        let answered = self.backends.values().sum::<u64>().max(1) as f64;
        let share: BTreeMap<_, _> =
            self.backends.iter().map(|(name, calls)| (name, *calls as f64 / answered)).collect();
        json!({
            "calls": self.calls, "ok": self.ok, "failed": self.failed,
            "latency_ms": self.latency.json(), "added_ms": self.added.json(), "share": share,
        })
    }
}

impl Quantiles {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let rank = |part: f64| {
            let rank = (part * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), p999: rank(0.999) }
    }

    pub(super) fn json(self) -> Value {
        let round = |millis: f64| (millis * 1e3).round() / 1e3;
        json!({
            "p50": round(self.p50), "p90": round(self.p90), "p99": round(self.p99), "p99.9": round(self.p999),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let thousand = Quantiles::of((1..=1000).rev().map(f64::from).collect());
        assert_eq!(thousand, Quantiles { p50: 500.0, p90: 900.0, p99: 990.0, p999: 999.0 });
        assert_eq!(Quantiles::of(vec![3.0]).p999, 3.0);
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }

    #[test]
    fn failures_are_counted_and_have_no_latency() {
        let mut tally = Tally::default();
        let (service, took) = (Duration::from_millis(2), Duration::from_millis(5));
        let by = |ending, backend: &str| Answer { ending, backend: Some(backend.into()) };
        (0..3).for_each(|_| tally.record(by(Ending::Ok, "b0"), took, service));
        tally.record(by(Ending::Grpc(14), "b1"), Duration::ZERO, service);
        tally.record(Answer::by_nobody(Ending::Timeout), 1000 * took, service);
        let report = tally.report().json();
        assert_eq!((&report["calls"], &report["ok"]), (&json!(5), &json!(3)));
        assert_eq!(report["failed"], json!({ "grpc_14": 1, "timeout": 1 }));
        assert_eq!(report["share"], json!({ "b0": 0.75, "b1": 0.25 }));
        assert_eq!(report["latency_ms"]["p99.9"], 5.0);
        assert_eq!(report["added_ms"]["p50"], 3.0);
    }
}
