//! Waiting until what was registered is READY or FAILED.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use weft_client::{Client, Result};
use weft_proto::database::v1::{Document, DocumentState};

use super::{Ingestion, Progress, Report, Step};

/// How often the documents that have waited longest are asked after.
const POLL: Duration = Duration::from_millis(200);
/// How many are asked after at once: one batch.
const BATCH: usize = 256;

/// A registered document.
#[derive(Debug)]
struct Waiting {
    id: String,
    document: String,
    version: u64,
    bytes: u64,
}

/// What is waited for, and what came of the rest.
#[derive(Debug, Default)]
struct Ledger {
    waiting: VecDeque<Waiting>,
    report: Report,
}

/// Takes note of every step, and asks after what is registered until all of it has settled, or nothing moves any more.
pub(super) async fn settle(
    ingestion: &Ingestion,
    client: &Client,
    mut steps: mpsc::Receiver<Step>,
    progress: &Progress,
) -> Result<Report> {
    let mut ledger = Ledger::default();
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut open, mut moved) = (true, Instant::now());
    while (open || !ledger.waiting.is_empty()) && moved.elapsed() < ingestion.stall {
        let before = ledger.settled();
        tokio::select! {
            step = steps.recv(), if open => match step {
                Some(step) => {
                    ledger.note(step);
                    moved = Instant::now();
                }
                None => open = false,
            },
            _ = poll.tick() => ask(ingestion, client, &mut ledger).await?,
        }
        if ledger.settled() > before {
            moved = Instant::now();
        }
        progress.show(&ledger.report);
    }
    ledger.report.pending = ledger.waiting.len() as u64;
    Ok(ledger.report)
}

/// Asks after those that have waited longest, batch by batch while most of a batch has settled.
async fn ask(ingestion: &Ingestion, client: &Client, ledger: &mut Ledger) -> Result<()> {
    let documents = client.documents();
    loop {
        let batch: Vec<Waiting> = ledger.waiting.drain(..BATCH.min(ledger.waiting.len())).collect();
        if batch.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = batch.iter().map(|waiting| waiting.id.clone()).collect();
        let found = ingestion.patience.run(|| documents.batch_get(&ids)).await?;
        let asked = batch.len();
        if ledger.compare(batch, &found) * 2 < asked || asked < BATCH {
            return Ok(());
        }
    }
}

impl Ledger {
    fn settled(&self) -> u64 {
        self.report.ready + self.report.unchanged + self.report.failed.len() as u64
    }

    fn note(&mut self, step: Step) {
        match step {
            Step::Unchanged => self.report.unchanged += 1,
            Step::Failed { document, reason } => self.report.failed.push((document, reason)),
            Step::Registered { id, document, version, bytes } => {
                self.waiting.push_back(Waiting { id, document, version, bytes });
            }
        }
    }

    /// Settles those of a batch that have, and puts the others at the end of the line; says how many settled.
    fn compare(&mut self, batch: Vec<Waiting>, found: &[Document]) -> usize {
        let before = self.waiting.len() + batch.len();
        let mut found = found.iter().peekable();
        for waiting in batch {
            // They come in the order asked for, and those that are gone are left out.
            match found.next_if(|document| document.id == waiting.id) {
                None => self.fail(waiting.document, "was deleted while it was being ingested"),
                Some(document) if document.version < waiting.version => self.waiting.push_back(waiting),
                Some(document) => match document.state() {
                    DocumentState::Ready => {
                        self.report.ready += 1;
                        self.report.bytes += waiting.bytes;
                    }
                    DocumentState::Failed => self.fail(waiting.document, &document.reason),
                    _ => self.waiting.push_back(waiting),
                },
            }
        }
        before - self.waiting.len()
    }

    fn fail(&mut self, document: String, reason: &str) {
        self.report.failed.push((document, reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(id: &str) -> Step {
        Step::Registered { id: id.into(), document: format!("{id}.md"), version: 2, bytes: 10 }
    }

    fn document(id: &str, version: u64, state: DocumentState) -> Document {
        Document {
            id: id.into(),
            version,
            state: state.into(),
            reason: "no text".into(),
            ..Default::default()
        }
    }

    #[test]
    fn documents_settle_as_they_are_found_and_the_others_wait_on() {
        let mut ledger = Ledger::default();
        for id in ["ready", "gone", "failed", "pending", "stale"] {
            ledger.note(registered(id));
        }
        ledger.note(Step::Unchanged);
        let batch: Vec<Waiting> = ledger.waiting.drain(..).collect();
        let found = [
            document("ready", 2, DocumentState::Ready),
            document("failed", 3, DocumentState::Failed),
            document("pending", 2, DocumentState::Pending),
            document("stale", 1, DocumentState::Ready),
        ];
        assert_eq!(ledger.compare(batch, &found), 3);
        let waiting: Vec<_> = ledger.waiting.iter().map(|waiting| waiting.id.as_str()).collect();
        assert_eq!(waiting, ["pending", "stale"]);
        let report = &ledger.report;
        assert_eq!((report.ready, report.unchanged, report.bytes), (1, 1, 10));
        let reasons: Vec<_> = report.failed.iter().map(|(path, why)| (path.as_str(), why.as_str())).collect();
        assert_eq!(
            reasons,
            [("gone.md", "was deleted while it was being ingested"), ("failed.md", "no text")]
        );
    }
}
