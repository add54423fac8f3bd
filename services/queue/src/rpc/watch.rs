//! The events of a job as a stream: what is recorded, then what comes, until the job ends.

use std::{collections::VecDeque, pin::Pin};

use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;
use weft_mesh::error::status;
use weft_proto::queue::v1::WatchJobResponse;

use super::encode;
use crate::{
    error::Error,
    job::{Event, Job, Recorded},
    jobs::Result,
    ledger::Ledger,
    watch::Watcher,
};

/// Events read from the store at a time: what a slow watcher makes the service hold.
const PAGE: u32 = 64;

struct Watch {
    ledger: Ledger,
    id: Uuid,
    after: u64,
    read: VecDeque<Recorded>,
    watcher: Watcher,
    draining: CancellationToken,
}

/// The events after a sequence number. Between two reads nothing of the store is held.
pub(super) fn events(
    ledger: &Ledger,
    job: &Job,
    after: u64,
    draining: CancellationToken,
) -> Pin<Box<dyn Stream<Item = std::result::Result<WatchJobResponse, Status>> + Send>> {
    let watcher = ledger.watchers().watch(job.id);
    let watch = Watch { ledger: ledger.clone(), id: job.id, after, read: VecDeque::new(), watcher, draining };
    Box::pin(stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(Some((event, last))) => Some((Ok(event), (!last).then_some(watch))),
            Ok(None) => None,
            Err(error) => Some((Err(status(error)), None)),
        }
    }))
}

impl Watch {
    /// The next event, and whether it is the last; `None` when the job ended before what was asked for.
    async fn next(&mut self) -> Result<Option<(WatchJobResponse, bool)>> {
        while self.read.is_empty() {
            self.read = self.ledger.jobs().events(self.id, self.after, PAGE).await?.into();
            if !self.read.is_empty() {
                break;
            }
            let job = self.job().await?;
            if job.state.has_ended() && job.last_sequence <= self.after {
                return Ok(None);
            }
            if job.last_sequence > self.after {
                continue;
            }
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return Err(Error::Stopping),
                () = self.watcher.news(self.after) => {}
            }
        }
        let Some(recorded) = self.read.pop_front() else { return Ok(None) };
        self.after = recorded.sequence;
        let last = recorded.event == Event::Ended;
        // Only the last event tells of the job itself.
        let job = if last { Some(self.job().await?) } else { None };
        let now = self.ledger.clock().now();
        Ok(Some((encode::event(recorded, job.as_ref(), now), last)))
    }

    async fn job(&self) -> Result<Job> {
        let job = self.ledger.jobs().get(&[self.id]).await?.pop();
        job.ok_or_else(|| Error::NotFound { id: self.id.to_string() })
    }
}
