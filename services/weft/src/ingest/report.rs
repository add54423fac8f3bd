//! What came of an ingestion, and how it is told.

use std::time::Duration;

use crate::{
    terminal::{Paint, Tone, printable},
    units,
};

/// The most failures told one by one.
const FAILURES_TOLD: usize = 50;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Documents that were ingested and are READY.
    pub ready: u64,
    /// Documents whose bytes the mesh had already, READY.
    pub unchanged: u64,
    /// Documents that could not be ingested, with the reason.
    pub failed: Vec<(String, String)>,
    /// Documents still PENDING when waiting ended.
    pub pending: u64,
    /// Bytes of the documents that were ingested.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Report {
    /// Whether every document is READY.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.pending == 0
    }

    /// Documents ingested per second.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.ready as f64 / seconds } else { 0.0 }
    }

    /// The failures, a line each; empty when there are none.
    pub(crate) fn failures(&self, paint: Paint) -> String {
        let mut text = String::new();
        let mut failed: Vec<_> = self.failed.iter().collect();
        failed.sort();
        for (document, reason) in failed.iter().take(FAILURES_TOLD) {
            let (document, reason) = (printable(document), printable(reason));
            text.push_str(&format!("{} {document}: {reason}\n", paint.tone(Tone::Bad, "failed")));
        }
        if failed.len() > FAILURES_TOLD {
            let more = units::count((failed.len() - FAILURES_TOLD) as u64);
            text.push_str(&format!("… and {more} more; `weft documents --state failed` lists them all\n"));
        }
        text
    }

    /// The summary, one line: `1,000 ready, 12 unchanged, 1 failed · 4.2 MiB in 6.1 s · 163.9 documents/s`.
    pub(crate) fn summary(&self, paint: Paint) -> String {
        let mut parts = vec![
            paint.tone(Tone::Good, format!("{} ready", units::count(self.ready))),
            format!("{} unchanged", units::count(self.unchanged)),
        ];
        let failed = format!("{} failed", units::count(self.failed.len() as u64));
        parts.push(if self.failed.is_empty() { failed } else { paint.tone(Tone::Bad, failed) });
        if self.pending > 0 {
            parts.push(paint.tone(Tone::Warn, format!("{} still pending", units::count(self.pending))));
        }
        let time = units::elapsed(self.elapsed);
        let speed = if self.ready > 0 {
            format!(" · {} in {time} · {:.1} documents/s", units::bytes(self.bytes), self.rate())
        } else {
            format!(" · {time}")
        };
        format!("{}{}", parts.join(", "), paint.dim(speed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_everything_in_one_line() {
        let report = Report {
            ready: 1000,
            unchanged: 12,
            failed: vec![("a.md".into(), "not text".into())],
            bytes: 4_400_000,
            elapsed: Duration::from_millis(6_100),
            ..Report::default()
        };
        let line = "1,000 ready, 12 unchanged, 1 failed · 4.2 MiB in 6.1 s · 163.9 documents/s";
        assert_eq!(report.summary(Paint::BARE), line);
        assert!(!report.is_success());
    }

    #[test]
    fn nothing_new_claims_no_speed() {
        let report = Report { unchanged: 3, elapsed: Duration::from_millis(40), ..Report::default() };
        assert_eq!(report.summary(Paint::BARE), "0 ready, 3 unchanged, 0 failed · 40 ms");
        assert!(report.is_success());
    }

    #[test]
    fn waiting_that_ended_early_is_no_success() {
        let report = Report { pending: 2, ..Report::default() };
        assert!(report.summary(Paint::BARE).contains("2 still pending"));
        assert!(!report.is_success());
    }

    #[test]
    fn failures_are_sorted_counted_and_harmless() {
        let mut failed: Vec<_> = (0..60).map(|n| (format!("{n:02}.md"), "x".to_owned())).collect();
        failed.reverse();
        failed.push(("00\u{1b}[2J".into(), "y".into()));
        let text = Report { failed, ..Report::default() }.failures(Paint::BARE);
        assert!(text.starts_with("failed 00[2J: y\nfailed 00.md: x\nfailed 01.md: x\n"));
        assert!(text.ends_with("… and 11 more; `weft documents --state failed` lists them all\n"));
    }
}
