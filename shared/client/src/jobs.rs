//! The user's jobs.

mod watch;

use futures::stream::BoxStream;
use weft_proto::queue::v1 as pb;

pub use pb::watch_job_response::Event;
pub use watch::{JobEvent, JobEvents, Watch};

use crate::{Result, Transport, error::present, pages};

/// Pages as large as they may be: fewer round trips.
const PAGE: i32 = 1000;

/// The user's jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    raw: pb::queue_service_client::QueueServiceClient<Transport>,
}

impl Jobs {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::queue_service_client::QueueServiceClient::new(transport) }
    }

    /// Publishes a job; the flag is true when its idempotency key or id was known.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with the reason INVALID_QUEUE for an unknown queue.
    pub async fn publish(&self, request: pb::PublishRequest) -> Result<(pb::Job, bool)> {
        let answer = self.raw.clone().publish(request).await?.into_inner();
        Ok((present(answer.job, "job")?, answer.existed))
    }

    /// One job with its attempts and errors.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn get(&self, id: &str) -> Result<pb::Job> {
        let answer = self.raw.clone().get_job(pb::GetJobRequest { id: id.to_owned() }).await?;
        present(answer.into_inner().job, "job")
    }

    /// A job's events until it ends, each once and in order, over streams that break and replicas that die.
    #[must_use]
    pub fn watch(&self, id: &str, watch: Watch) -> JobEvents {
        watch::events(self.raw.clone(), id.to_owned(), watch)
    }

    /// Asks a job to stop. Idempotent.
    ///
    /// # Errors
    /// NOT_FOUND, and FAILED_PRECONDITION when it has ended.
    pub async fn cancel(&self, id: &str) -> Result<pb::Job> {
        let answer = self.raw.clone().cancel_job(pb::CancelJobRequest { id: id.to_owned() }).await?;
        present(answer.into_inner().job, "job")
    }

    /// The dead letters of a queue, or of all queues, newest first.
    #[must_use]
    pub fn dead(&self, queue: &str) -> BoxStream<'static, Result<pb::Job>> {
        let raw = self.raw.clone();
        let queue = queue.to_owned();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            let request = pb::ListDeadJobsRequest { queue: queue.clone(), page_size: PAGE, page_token };
            async move {
                let page = raw.list_dead_jobs(request).await?.into_inner();
                Ok((page.jobs, page.next_page_token))
            }
        })
    }

    /// Puts dead letters back on their queue; says how many. Idempotent.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with the reason INVALID_QUEUE for an unknown queue.
    pub async fn redrive(&self, which: DeadJobs) -> Result<u64> {
        let (ids, queue) = which.split();
        Ok(self.raw.clone().redrive_jobs(pb::RedriveJobsRequest { ids, queue }).await?.into_inner().redriven)
    }

    /// Gives dead letters up for good; says how many. Idempotent.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with the reason INVALID_QUEUE for an unknown queue.
    pub async fn discard(&self, which: DeadJobs) -> Result<u64> {
        let (ids, queue) = which.split();
        let request = pb::DiscardDeadJobsRequest { ids, queue };
        Ok(self.raw.clone().discard_dead_jobs(request).await?.into_inner().discarded)
    }
}

/// Some dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadJobs {
    /// These, at most 1000.
    Ids(Vec<String>),
    /// All of this queue.
    Queue(String),
}

impl DeadJobs {
    fn split(self) -> (Vec<String>, String) {
        match self {
            Self::Ids(ids) => (ids, String::new()),
            Self::Queue(queue) => (Vec::new(), queue),
        }
    }
}
