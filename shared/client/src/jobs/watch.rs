//! A job's events over streams that break.

use std::time::Duration;

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Streaming};
use weft_mesh::{context, error::ErrorKind};
use weft_proto::queue::v1 as pb;

use super::Event;
use crate::{Backoff, Error, Result, Transport, error::is_broken_off, retry::retry_after};

/// A job's events, in order, each once; ends after [`Event::Ended`] or an error.
pub type JobEvents = BoxStream<'static, Result<JobEvent>>;

/// One event of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// Its place among the job's events, from 1; to be given to [`Watch::after`] by who goes on later.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// How a job is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The last event already received; 0 begins with the first.
    pub after: u64,
    /// When to give up waiting for the end. Default 10 min: a document or an answer takes seconds.
    pub limit: Duration,
    /// How long the job may be unknown before it counts as not found. Default 5 s: who posts a message learns the job's
    /// id before the outbox has published the job.
    pub grace: Duration,
    /// The pauses between attempts to go on.
    pub backoff: Backoff,
    /// How often a defect may break the stream without an event between. Default 5.
    pub defects: u32,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            after: 0,
            limit: Duration::from_secs(600),
            grace: Duration::from_secs(5),
            backoff: Backoff::default(),
            defects: 5,
        }
    }
}

type Raw = pb::queue_service_client::QueueServiceClient<Transport>;

/// Where a watch stands.
struct Watcher {
    raw: Raw,
    job: String,
    watch: Watch,
    started: Instant,
    stream: Option<Streaming<pb::WatchJobResponse>>,
    /// Attempts to go on since the last event.
    attempt: u32,
    /// Defects since the last event.
    defects: u32,
    /// Whether the job has been seen.
    known: bool,
    /// Why the stream last broke.
    last: Option<Box<Error>>,
    ended: bool,
}

/// Follows a job from `watch.after` on.
pub(super) fn events(raw: Raw, job: String, watch: Watch) -> JobEvents {
    let watcher = Watcher {
        raw,
        job,
        watch,
        started: Instant::now(),
        stream: None,
        attempt: 0,
        defects: 0,
        known: watch.after > 0,
        last: None,
        ended: false,
    };
    stream::unfold(watcher, |mut watcher| async move {
        if watcher.ended {
            return None;
        }
        let item = watcher.next().await;
        watcher.ended = !matches!(&item, Ok(JobEvent { event, .. }) if !matches!(event, Event::Ended(_)));
        Some((item, watcher))
    })
    .boxed()
}

impl Watcher {
    async fn next(&mut self) -> Result<JobEvent> {
        let deadline = self.started + self.watch.limit;
        match timeout_at(deadline, self.follow(deadline)).await {
            Ok(item) => item,
            Err(_) => Err(Error::WatchDeadline { job: self.job.clone(), last: self.last.take() }),
        }
    }

    /// The next event, over as many streams as it takes.
    async fn follow(&mut self, deadline: Instant) -> Result<JobEvent> {
        loop {
            match self.receive(deadline).await {
                Ok(Some(response)) => {
                    self.known = true;
                    if let Some(event) = self.admit(response) {
                        return Ok(event);
                    }
                }
                Ok(None) => self.pause(None).await,
                Err(error) if self.tolerates(&error) => self.pause(Some(error)).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message of the stream, which is opened if it is not; None when it ended.
    async fn receive(&mut self, deadline: Instant) -> Result<Option<pb::WatchJobResponse>> {
        if self.stream.is_none() {
            let request = pb::WatchJobRequest { id: self.job.clone(), after_sequence: self.watch.after };
            // A little later than the watch itself ends, which says why it could not be followed.
            let context = context::current().until((deadline + Duration::from_secs(1)).into_std());
            let stream = context::scope(context, self.raw.watch_job(request)).await?;
            self.stream = Some(stream.into_inner());
        }
        match &mut self.stream {
            Some(stream) => Ok(stream.message().await?),
            None => Ok(None),
        }
    }

    /// The event, unless it has been yielded already.
    fn admit(&mut self, response: pb::WatchJobResponse) -> Option<JobEvent> {
        let sequence = response.sequence;
        if sequence <= self.watch.after {
            return None;
        }
        (self.watch.after, self.attempt, self.defects) = (sequence, 0, 0);
        response.event.map(|event| JobEvent { sequence, event })
    }

    async fn pause(&mut self, error: Option<Error>) {
        self.stream = None;
        let asked = error.as_ref().and_then(retry_after);
        self.last = error.map(Box::new).or(self.last.take());
        tracing::debug!(job = %self.job, after = self.watch.after, attempt = self.attempt, "resuming job events");
        self.watch.backoff.pause(self.attempt, asked).await;
        self.attempt = self.attempt.saturating_add(1);
    }

    /// Whether to go on after an error.
    fn tolerates(&mut self, error: &Error) -> bool {
        let Error::Call(call) = error else { return false };
        match call.kind {
            ErrorKind::NotFound => !self.known && self.started.elapsed() < self.watch.grace,
            ErrorKind::Internal => {
                self.defects += 1;
                self.defects <= self.watch.defects
            }
            kind => kind.retryable() || is_broken_off(call) || call.code == Code::Cancelled,
        }
    }
}
