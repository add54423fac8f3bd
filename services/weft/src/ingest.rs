//! `weft ingest`: files become documents that can be asked about.
//!
//! Every step is idempotent: equal bytes are one asset, a document is (owner, path), an unchanged one is left alone. So a
//! run that was killed is finished by running it again, and a mesh that restarts meanwhile is waited for.

mod media;
mod progress;
mod report;
mod settle;
mod upload;
mod walk;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{TryStreamExt as _, stream};
use tokio::sync::mpsc;
use weft_client::{Client, Patience};

use crate::{cli::IngestArguments, session::Session, terminal};

pub use progress::Progress;
pub use report::Report;
pub use walk::{Found, Selection, Walk, walk};

/// How long to wait for a mesh that restarts.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait while no document becomes READY or FAILED.
const STALL: Duration = Duration::from_secs(120);
/// Documents registered and not yet looked after: uploads wait when there are more.
const AHEAD: usize = 1024;

/// How files are ingested.
#[derive(Clone, Copy, Debug)]
pub struct Ingestion {
    /// How many files are sent at once.
    pub concurrency: usize,
    /// How long a mesh that does not answer is waited for.
    pub patience: Patience,
    /// How long to wait while no document becomes READY or FAILED.
    pub stall: Duration,
}

impl Default for Ingestion {
    fn default() -> Self {
        Self { concurrency: 16, patience: Patience::of(PATIENCE), stall: STALL }
    }
}

/// What has become of one file so far.
#[derive(Debug)]
enum Step {
    /// The mesh has it as it is.
    Unchanged,
    /// It is being ingested.
    Registered { id: String, document: String, version: u64, bytes: u64 },
    /// It cannot be.
    Failed { document: String, reason: String },
}

impl Ingestion {
    /// Uploads and registers files, and waits until each is READY or FAILED.
    ///
    /// # Errors
    /// When the mesh does not answer any more. What was registered by then goes on in the mesh.
    pub async fn run(
        &self,
        client: &Client,
        files: Vec<Found>,
        progress: &Progress,
    ) -> weft_client::Result<Report> {
        let started = Instant::now();
        let (registered, steps) = mpsc::channel(AHEAD);
        let register = self.register(client, files, registered);
        let settle = settle::settle(self, client, steps, progress);
        let ((), report) = futures::try_join!(register, settle)?;
        Ok(Report { elapsed: started.elapsed(), ..report })
    }

    async fn register(
        &self,
        client: &Client,
        files: Vec<Found>,
        registered: mpsc::Sender<Step>,
    ) -> weft_client::Result<()> {
        let files = stream::iter(files.into_iter().map(Ok));
        files
            .map_ok(|found| upload::register(client, found, self.patience))
            .try_buffer_unordered(self.concurrency)
            .try_for_each(|step| async {
                // Nobody listens any more when waiting has ended: the uploads go on all the same.
                let _ = registered.send(step).await;
                Ok(())
            })
            .await
    }
}

/// Runs `weft ingest`.
pub(crate) async fn command(session: &Session, arguments: &IngestArguments) -> anyhow::Result<ExitCode> {
    let cwd = std::env::current_dir().context("cannot tell the current directory")?;
    let selection = if arguments.all { Selection::All } else { Selection::TextLike };
    let found = walk(&cwd, &arguments.paths, selection)
        .map_err(|missing| anyhow::anyhow!(missing.join("\n       ")))?;
    if found.found.is_empty() && found.unreadable.is_empty() {
        anyhow::bail!("there is no text in what was given; `--all` takes every file");
    }
    let client = session.client().await?;
    let ingestion = Ingestion {
        concurrency: arguments.concurrency.into(),
        stall: session.timeout(STALL),
        ..Ingestion::default()
    };
    let progress = Progress::on_stderr(found.found.len() as u64);
    let outcome = ingestion.run(&client, found.found, &progress).await;
    progress.finish();
    let mut report = outcome.context("stopped half-way; run the same command again to finish the rest")?;
    report.failed.extend(found.unreadable);
    terminal::tell(report.failures(session.err));
    terminal::print(&(report.summary(session.out) + "\n"))?;
    if report.pending > 0 {
        terminal::tell(
            "the rest goes on in the mesh: `weft documents --state pending` and `weft status` show how far it is",
        );
    }
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
