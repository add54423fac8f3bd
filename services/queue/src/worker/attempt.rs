//! One attempt at a job: from the claim to the stored outcome.

use std::{panic::AssertUnwindSafe, pin::pin, time::Duration};

use futures::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use weft_mesh::trace;

use super::{STORE_AWAY, Worker, output::Output};
use crate::{
    broker::Receipt,
    clock::millis,
    handler::Failure,
    job::{Job, machine::Command},
    jobs::{Change, Claimed},
    metrics::Outcome,
};

/// How long storing an outcome may take once the process has to stop: the runtime waits two seconds.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why an attempt ends before its handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    /// Somebody else may have the job by now.
    LeaseLost,
    /// The owner wants it no more.
    Cancelled,
    /// The process has to stop.
    Stopping,
}

impl Worker {
    /// Runs a claimed job and stores what became of it. Then, and not before, the delivery is settled.
    pub(super) async fn attempt(&self, claimed: Claimed, mut receipt: Receipt) {
        let Claimed { job, payload } = claimed;
        let span = tracing::info_span!(
            "process",
            otel.name = format!("process {}", job.queue),
            otel.kind = "consumer",
            messaging.system = "weft",
            messaging.operation.name = "process",
            messaging.destination.name = job.queue.name(),
            messaging.message.id = %job.id,
            attempt = job.attempts,
        );
        trace::adopt_traceparent(&span, &job.traceparent);
        let started = Instant::now();
        self.metrics.begin(job.queue);
        let outcome = self.see_through(&job, &payload, &mut receipt).instrument(span).await;
        self.metrics.end(job.queue, outcome, started.elapsed());
        receipt.ack().await;
    }

    async fn see_through(&self, job: &Job, payload: &[u8], receipt: &mut Receipt) -> Outcome {
        let output = Output::default();
        let done = CancellationToken::new();
        let mut result = None;
        let interruption = {
            let run = AssertUnwindSafe(self.handlers.run(job, payload, &output)).catch_unwind();
            // A bug that some input brings out costs that job an attempt, like any other failure.
            let run = run.map(|done| done.unwrap_or_else(|_| Err(Failure::retry("the handler panicked"))));
            let mut handler = pin!(run);
            let mut keeper = pin!(self.keep(job, &output, receipt, &done));
            tokio::select! {
                outcome = &mut handler => {
                    result = Some(outcome);
                    // What the keeper has in hand it stores first: the log stays in order.
                    done.cancel();
                    keeper.await
                }
                interruption = &mut keeper => interruption,
            }
        };
        match (interruption, result) {
            (Some(Interruption::LeaseLost), _) => {
                tracing::warn!(job = %job.id, "the lease was lost, and the attempt with it");
                Outcome::Lost
            }
            (_, Some(Ok(()))) => {
                let succeed = Command::Succeed { epoch: job.epoch, events: output.take() };
                self.settle(job, succeed, Outcome::Succeeded).await
            }
            (_, Some(Err(failure))) => self.fail(job, payload, failure).await,
            (Some(Interruption::Cancelled), None) => {
                self.settle(job, Command::Abandon { epoch: job.epoch }, Outcome::Cancelled).await
            }
            (_, None) => self.settle(job, Command::Release { epoch: job.epoch }, Outcome::Released).await,
        }
    }

    /// Keeps the lease, stores output as it gathers, and says when the attempt has to end. Returns `None` when `done`.
    async fn keep(
        &self,
        job: &Job,
        output: &Output,
        receipt: &mut Receipt,
        done: &CancellationToken,
    ) -> Option<Interruption> {
        let started = Instant::now();
        let mut renewed = started;
        let mut flushed = started - Duration::from_secs(1);
        loop {
            tokio::select! {
                biased;
                () = done.cancelled() => return None,
                () = self.stopping.cancelled() => return Some(Interruption::Stopping),
                () = output.gathered(flushed) => {}
                () = tokio::time::sleep_until(renewed + self.config.heartbeat) => {}
            }
            let events = output.take();
            let until = self.ledger.clock().now() + millis(self.config.lease);
            let sign_of_life = Command::Advance { epoch: job.epoch, lease_until: Some(until), events };
            match self.store(job, sign_of_life).await {
                Some(after) if after.cancel_requested => return Some(Interruption::Cancelled),
                Some(_) => {}
                None => return Some(Interruption::LeaseLost),
            }
            (renewed, flushed) = (Instant::now(), Instant::now());
            if started.elapsed() >= self.config.ack_early_after {
                receipt.ack().await;
            }
        }
    }

    async fn fail(&self, job: &Job, payload: &[u8], failure: Failure) -> Outcome {
        let error = failure.message().to_owned();
        tracing::info!(job = %job.id, attempt = job.attempts, error, "an attempt failed");
        let last = job.attempts >= job.max_attempts;
        let (command, outcome) = match failure {
            Failure::Retry { after, .. } => {
                let delay = self.backoff.delay(job.attempts, fastrand::f64(), after);
                let retry_at = self.ledger.clock().now() + millis(delay);
                let outcome = if last { Outcome::Dead } else { Outcome::Retried };
                (Command::Fail { epoch: job.epoch, error: error.clone(), retry_at }, outcome)
            }
            Failure::Permanent { .. } => {
                (Command::Bury { epoch: job.epoch, error: error.clone() }, Outcome::Dead)
            }
        };
        if outcome == Outcome::Dead
            && let Err(untold) = self.handlers.give_up(job, payload, &error).await
        {
            // Nobody was told, so it is not over: the lease runs out, and the sweep tells them before it buries the job.
            tracing::warn!(job = %job.id, error = untold.message(), "cannot give the job up yet");
            return Outcome::Retried;
        }
        self.settle(job, command, outcome).await
    }

    async fn settle(&self, job: &Job, command: Command, outcome: Outcome) -> Outcome {
        if self.store(job, command).await.is_some() { outcome } else { Outcome::Lost }
    }

    /// Stores a change of the leased job, trying on while the store is away and the lease lasts. `None` when the lease
    /// is lost, or the change could not be stored before it ended.
    async fn store(&self, job: &Job, command: Command) -> Option<Job> {
        let started = Instant::now();
        let mut failures = 0;
        loop {
            match self.ledger.change(Change::new(job.id, command.clone())).await {
                Ok(changed) => return changed.ok(),
                Err(error) => {
                    failures += 1;
                    tracing::debug!(job = %job.id, error = weft_mesh::error::chain(&error), "not stored, trying on");
                }
            }
            let pause = STORE_AWAY.delay(failures, fastrand::f64(), Duration::from_millis(20));
            let patience = if self.stopping.is_cancelled() { LAST_WORDS } else { self.config.lease };
            if started.elapsed() + pause > patience {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
    }
}
