//! The one writer: jobs that arrive while a group commits make the next group.

use std::sync::Arc;

use futures::FutureExt;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{SqliteSession, failed};
use crate::{
    error::Error,
    failpoint::{Failpoint, Point},
    insight::Observer,
    repository::Job,
};

/// Jobs that may wait.
const QUEUE: usize = 1024;
/// Jobs in a group at most, so that nobody waits long for the slowest of them.
const GROUP: usize = 64;

struct Request {
    job: Job,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Hands jobs to the writing task.
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
}

impl Writer {
    pub(super) fn start(
        connection: SqliteConnection,
        observer: Arc<Observer>,
        failpoint: Failpoint,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let (requests, inbox) = mpsc::channel(QUEUE);
        tasks.spawn(Task { connection, observer, failpoint }.run(inbox, stopping));
        Self { requests }
    }

    /// Runs a job and waits for its group's commit. Dropping the future before the job began keeps it from running;
    /// after that, it runs to its end.
    pub(super) async fn run(&self, job: Job) -> Result<(), Error> {
        let (done, result) = oneshot::channel();
        let stopped =
            || Error::Unavailable { server: "sqlite", reason: "the service is stopping".to_owned() };
        self.requests.send(Request { job, done }).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }
}

struct Task {
    connection: SqliteConnection,
    observer: Arc<Observer>,
    failpoint: Failpoint,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, stopping: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let received = tokio::select! {
                biased;
                received = inbox.recv_many(&mut group, GROUP) => received,
                () = stopping.cancelled() => 0,
            };
            if received == 0 {
                break;
            }
            self.commit(&mut group).await;
        }
        // Moves the log into the database file; what fails here is done at the next start.
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "database closed uncleanly");
        }
    }

    /// Runs a group of jobs in one transaction. Each is a savepoint: one that fails takes nothing else with it.
    async fn commit(&mut self, group: &mut Vec<Request>) {
        if let Err(error) = self.statement("BEGIN IMMEDIATE").await {
            refuse(group.drain(..).map(|request| request.done), &error);
            return;
        }
        let mut finished = Vec::with_capacity(group.len());
        for request in group.drain(..).filter(|request| !request.done.is_closed()) {
            match self.job(request.job).await {
                Ok(()) => finished.push(request.done),
                Err(error) => drop(request.done.send(Err(error))),
            }
        }
        if !finished.is_empty() {
            self.failpoint.reach(Point::BeforeCommit);
        }
        if let Err(error) = self.statement("COMMIT").await {
            let rollback = self.statement("ROLLBACK").await;
            tracing::debug!(rolled_back = rollback.is_ok(), "group not committed");
            refuse(finished, &error);
            return;
        }
        if !finished.is_empty() {
            self.failpoint.reach(Point::AfterCommit);
        }
        for done in finished {
            // The caller may have gone away; what it asked for is done.
            drop(done.send(Ok(())));
        }
    }

    async fn job(&mut self, job: Job) -> Result<(), Error> {
        self.statement("SAVEPOINT job").await?;
        let mut session = SqliteSession::writing(&mut self.connection, &self.observer);
        let result = std::panic::AssertUnwindSafe(job(&mut session)).catch_unwind().await;
        let result = result.unwrap_or_else(|_| Err(Error::internal("a write panicked")));
        if result.is_err() {
            self.statement("ROLLBACK TO job").await?;
        }
        self.statement("RELEASE job").await?;
        result
    }

    async fn statement(&mut self, sql: &'static str) -> Result<(), Error> {
        let done = self.connection.execute(sql).await;
        done.map(drop).map_err(|error| failed(sql, error))
    }
}

/// Tells everybody why; the details go to the log once.
fn refuse(waiting: impl IntoIterator<Item = oneshot::Sender<Result<(), Error>>>, error: &Error) {
    let text = weft_mesh::error::chain(error);
    tracing::warn!(error = text, "a group of writes failed");
    for done in waiting {
        drop(done.send(Err(Error::Unavailable { server: "sqlite", reason: text.clone() })));
    }
}
