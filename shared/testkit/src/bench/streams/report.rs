//! What came of streams.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bench::{
    call::{Answer, Ending},
    report::Quantiles,
};

/// What came of all streams.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamsReport {
    /// Streams opened.
    pub streams: u64,
    /// Those that ended with status 0.
    pub ok: u64,
    /// The others by how they ended: as calls of a [`Load`](crate::bench::Load), or `garbled` (a message that was not the
    /// next one).
    pub failed: BTreeMap<String, u64>,
    /// Messages that were asked for.
    pub due: u64,
    /// Messages that came.
    pub received: u64,
    /// From when the backend sent each to when it came.
    pub late: Quantiles,
    /// Streams by who answered them to their end.
    pub backends: BTreeMap<String, u64>,
}

/// Gathers streams that have ended.
#[derive(Debug, Default)]
pub(super) struct Tally {
    endings: BTreeMap<Ending, u64>,
    late_ms: Vec<f64>,
    backends: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn record(&mut self, answer: Answer, late_ms: Vec<f64>) {
        *self.endings.entry(answer.ending).or_default() += 1;
        if let Some(backend) = answer.backend {
            *self.backends.entry(backend).or_default() += 1;
        }
        self.late_ms.extend(late_ms);
    }

    /// With so many messages asked for on each.
    pub(super) fn report(mut self, messages: u64) -> StreamsReport {
        let streams = self.endings.values().sum();
        let ok = self.endings.remove(&Ending::Ok).unwrap_or_default();
        StreamsReport {
            streams,
            ok,
            failed: self.endings.iter().map(|(ending, streams)| (ending.to_string(), *streams)).collect(),
            due: messages * streams,
            received: self.late_ms.len() as u64,
            late: Quantiles::of(self.late_ms),
            backends: self.backends,
        }
    }
}

impl StreamsReport {
    /// As one object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "streams": self.streams, "ok": self.ok, "failed": self.failed,
            "due": self.due, "received": self.received, "late_ms": self.late.json(), "backends": self.backends,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_is_still_due() {
        let mut tally = Tally::default();
        let whole = Answer { ending: Ending::Ok, backend: Some("b0".into()) };
        tally.record(whole, vec![1.0, 3.0, 2.0]);
        tally.record(Answer::by_nobody(Ending::Reset), vec![4.0]);
        tally.record(Answer::by_nobody(Ending::Timeout), Vec::new());
        let report = tally.report(3).json();
        assert_eq!((&report["streams"], &report["ok"]), (&json!(3), &json!(1)));
        assert_eq!(report["failed"], json!({ "reset": 1, "timeout": 1 }));
        assert_eq!((&report["due"], &report["received"]), (&json!(9), &json!(4)));
        assert_eq!((&report["late_ms"]["p50"], &report["late_ms"]["p99"]), (&json!(2.0), &json!(4.0)));
        assert_eq!(report["backends"], json!({ "b0": 1 }));
    }
}
