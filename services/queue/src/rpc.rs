//! `weft.queue.v1.QueueService`: decodes, calls the ledger, encodes.

mod dead;
mod encode;
mod publish;
mod watch;

use std::{pin::Pin, sync::atomic::Ordering, time::Duration};

use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use weft_mesh::{context, error::status};
use weft_proto::queue::v1::{
    CancelJobRequest, CancelJobResponse, DiscardDeadJobsRequest, DiscardDeadJobsResponse, GetJobRequest,
    GetJobResponse, GetStatsRequest, GetStatsResponse, ListDeadJobsRequest, ListDeadJobsResponse,
    PublishRequest, PublishResponse, QueueStats, RedriveJobsRequest, RedriveJobsResponse, WatchJobRequest,
    WatchJobResponse, queue_service_server::QueueService,
};

use crate::{
    clock,
    config::{Config, Role},
    error::Error,
    job::{Job, machine::Command},
    jobs::{Change, Rejection, Result},
    ledger::Ledger,
    metrics::Metrics,
};

/// The gRPC face of the service.
pub(crate) struct QueueRpc {
    ledger: Ledger,
    metrics: Metrics,
    worker: bool,
    max_attempts: u32,
    draining: CancellationToken,
}

impl QueueRpc {
    pub(crate) fn new(
        ledger: Ledger,
        metrics: Metrics,
        config: &Config,
        draining: CancellationToken,
    ) -> QueueRpc {
        let (worker, max_attempts) = (config.has(Role::Worker), config.retry.max_attempts);
        QueueRpc { ledger, metrics, worker, max_attempts, draining }
    }

    async fn publish_job(&self, request: PublishRequest) -> Result<PublishResponse> {
        let owner = context::user();
        let new = publish::decode(request, &owner, self.max_attempts, self.ledger.clock().now())?;
        let queue = new.queue;
        let inserted = self.ledger.publish(new).await?;
        if inserted.job.owner != owner {
            return Err(Error::IdTaken { id: inserted.job.id.to_string() });
        }
        if !inserted.existed {
            self.metrics.sent(queue);
        }
        let job = encode::job(&inserted.job, self.ledger.clock().now());
        Ok(PublishResponse { job: Some(job), existed: inserted.existed })
    }

    /// One of the caller's jobs.
    async fn own_job(&self, id: &str) -> Result<Job> {
        let job = self.ledger.jobs().get(&[parse_id(id)?]).await?.pop();
        let own = job.filter(|job| job.owner == context::user());
        own.ok_or_else(|| Error::NotFound { id: id.to_owned() })
    }

    async fn cancel(&self, id: String) -> Result<Job> {
        let owner = Some(context::user());
        let change = Change { id: parse_id(&id)?, owner, command: Command::Cancel };
        self.ledger.change(change).await?.map_err(|rejection| match rejection {
            Rejection::NotFound => Error::NotFound { id },
            Rejection::Refused(_) => Error::Ended { id },
        })
    }

    async fn stats(&self) -> Result<GetStatsResponse> {
        let now = self.ledger.clock().now();
        let depths = self.ledger.jobs().depths(now).await?;
        let broker = self.ledger.broker();
        let published = broker.needs_publishing();
        let queues = depths.iter().map(|depth| {
            let counts = self.metrics.counts(depth.queue);
            let age = depth.oldest_due.map_or(Duration::ZERO, |due| clock::duration(now - due));
            QueueStats {
                queue: depth.queue.name().to_owned(),
                ready: depth.ready,
                scheduled: depth.scheduled,
                running: depth.running,
                dead: depth.dead,
                oldest_ready_age: Some(encode::duration(age)),
                succeeded: counts.succeeded.load(Ordering::Relaxed),
                failed_attempts: counts.failed_attempts.load(Ordering::Relaxed),
                working: counts.working.load(Ordering::Relaxed),
            }
        });
        Ok(GetStatsResponse {
            jobs_backend: self.ledger.jobs().backend().to_owned(),
            broker_backend: broker.backend().to_owned(),
            queues: queues.collect(),
            worker: self.worker,
            broker_connected: broker.connected(),
            unpublished: if published { depths.iter().map(|depth| depth.unpublished).sum() } else { 0 },
            pid: std::process::id(),
        })
    }
}

#[tonic::async_trait]
impl QueueService for QueueRpc {
    type WatchJobStream = Pin<Box<dyn Stream<Item = std::result::Result<WatchJobResponse, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> std::result::Result<Response<PublishResponse>, Status> {
        self.publish_job(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_job(
        &self,
        request: Request<GetJobRequest>,
    ) -> std::result::Result<Response<GetJobResponse>, Status> {
        let job = self.own_job(&request.into_inner().id).await.map_err(status)?;
        let job = Some(encode::job(&job, self.ledger.clock().now()));
        Ok(Response::new(GetJobResponse { job }))
    }

    async fn watch_job(
        &self,
        request: Request<WatchJobRequest>,
    ) -> std::result::Result<Response<Self::WatchJobStream>, Status> {
        let request = request.into_inner();
        let job = self.own_job(&request.id).await.map_err(status)?;
        let events = watch::events(&self.ledger, &job, request.after_sequence, self.draining.clone());
        Ok(Response::new(events))
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> std::result::Result<Response<CancelJobResponse>, Status> {
        let job = self.cancel(request.into_inner().id).await.map_err(status)?;
        let job = Some(encode::job(&job, self.ledger.clock().now()));
        Ok(Response::new(CancelJobResponse { job }))
    }

    async fn list_dead_jobs(
        &self,
        request: Request<ListDeadJobsRequest>,
    ) -> std::result::Result<Response<ListDeadJobsResponse>, Status> {
        dead::list(&self.ledger, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn redrive_jobs(
        &self,
        request: Request<RedriveJobsRequest>,
    ) -> std::result::Result<Response<RedriveJobsResponse>, Status> {
        let RedriveJobsRequest { ids, queue } = request.into_inner();
        let redriven = dead::apply(&self.ledger, &ids, &queue, &Command::Redrive).await.map_err(status)?;
        Ok(Response::new(RedriveJobsResponse { redriven }))
    }

    async fn discard_dead_jobs(
        &self,
        request: Request<DiscardDeadJobsRequest>,
    ) -> std::result::Result<Response<DiscardDeadJobsResponse>, Status> {
        let DiscardDeadJobsRequest { ids, queue } = request.into_inner();
        let discarded = dead::apply(&self.ledger, &ids, &queue, &Command::Discard).await.map_err(status)?;
        Ok(Response::new(DiscardDeadJobsResponse { discarded }))
    }

    async fn get_stats(
        &self,
        _request: Request<GetStatsRequest>,
    ) -> std::result::Result<Response<GetStatsResponse>, Status> {
        self.stats().await.map(Response::new).map_err(status)
    }
}

/// What is no UUID names no job.
fn parse_id(id: &str) -> Result<Uuid> {
    if id.is_empty() {
        return Err(Error::field("id", "must not be empty"));
    }
    Uuid::parse_str(id).map_err(|_| Error::field("id", "must be a UUID"))
}
