//! A queue service that answers WatchJob by script.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status, service::Routes};
use weft_proto::queue::v1::{
    self as pb,
    queue_service_server::{QueueService, QueueServiceServer},
    watch_job_response::Event,
};

use crate::server::{Scissors, Server, unused};

/// How a stream ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// As if all were said.
    Close,
    /// With a status.
    Fail(Status),
    /// Without trailers: the connection is cut, perhaps before all events have left.
    Break,
    /// Not at all.
    Hang,
}

/// The answer to one call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Refuse(Status),
    Stream(Vec<pb::WatchJobResponse>, End),
}

impl Reply {
    pub(crate) fn events(events: impl IntoIterator<Item = pb::WatchJobResponse>, end: End) -> Self {
        Self::Stream(events.into_iter().collect(), end)
    }
}

/// An output event whose text is its number.
pub(crate) fn output(sequence: u64) -> pb::WatchJobResponse {
    let output = pb::JobOutput { text: sequence.to_string() };
    pb::WatchJobResponse { sequence, event: Some(Event::Output(output)) }
}

/// The last event.
pub(crate) fn ended(sequence: u64) -> pb::WatchJobResponse {
    pb::WatchJobResponse { sequence, event: Some(Event::Ended(pb::Job::default())) }
}

type Answer = Box<dyn FnMut(u64) -> Reply + Send>;

struct Scripted {
    replies: Mutex<VecDeque<Reply>>,
    /// Answers when no reply is left.
    answer: Mutex<Answer>,
    asked: Mutex<Vec<(String, u64)>>,
}

/// The running service.
pub(crate) struct Queue {
    pub(crate) server: Server,
    scripted: Arc<Scripted>,
}

impl Queue {
    pub(crate) fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), replies)
    }

    pub(crate) fn start_at(address: SocketAddr, replies: impl IntoIterator<Item = Reply>) -> Self {
        let scripted = Arc::new(Scripted {
            replies: Mutex::new(replies.into_iter().collect()),
            answer: Mutex::new(Box::new(|_| {
                Reply::Refuse(Status::failed_precondition("the script is over"))
            })),
            asked: Mutex::default(),
        });
        let service = |scissors| Service { scripted: Arc::clone(&scripted), scissors };
        let server = Server::start_at(address, |it| Routes::new(QueueServiceServer::new(service(it))));
        Self { server, scripted }
    }

    /// Answers every further call by what it asks for.
    pub(crate) fn answer_with(&self, answer: impl FnMut(u64) -> Reply + Send + 'static) {
        *self.scripted.answer.lock().unwrap() = Box::new(answer);
    }

    /// The user and the sequence number of every call.
    pub(crate) fn asked(&self) -> Vec<(String, u64)> {
        self.scripted.asked.lock().unwrap().clone()
    }
}

struct Service {
    scripted: Arc<Scripted>,
    scissors: Scissors,
}

#[tonic::async_trait]
impl QueueService for Service {
    type WatchJobStream = BoxStream<'static, Result<pb::WatchJobResponse, Status>>;

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let user = request.metadata().get("weft-user").map(|user| user.to_str().unwrap().to_owned());
        let after = request.get_ref().after_sequence;
        self.scripted.asked.lock().unwrap().push((user.unwrap_or_default(), after));
        let reply = self.scripted.replies.lock().unwrap().pop_front();
        let reply = reply.unwrap_or_else(|| self.scripted.answer.lock().unwrap()(after));
        let (events, end) = match reply {
            Reply::Refuse(status) => return Err(status),
            Reply::Stream(events, end) => (events, end),
        };
        let scissors = self.scissors.clone();
        let end = async move {
            match end {
                End::Close => None,
                End::Fail(status) => Some(Err(status)),
                End::Break => {
                    scissors.cut();
                    std::future::pending().await
                }
                End::Hang => std::future::pending().await,
            }
        };
        let events = stream::iter(events.into_iter().map(Ok));
        Ok(Response::new(events.chain(stream::once(end).filter_map(std::future::ready)).boxed()))
    }

    unused! {
        publish: PublishRequest -> PublishResponse;
        get_job: GetJobRequest -> GetJobResponse;
        cancel_job: CancelJobRequest -> CancelJobResponse;
        list_dead_jobs: ListDeadJobsRequest -> ListDeadJobsResponse;
        redrive_jobs: RedriveJobsRequest -> RedriveJobsResponse;
        discard_dead_jobs: DiscardDeadJobsRequest -> DiscardDeadJobsResponse;
        get_stats: GetStatsRequest -> GetStatsResponse;
    }
}
