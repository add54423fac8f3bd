//! The services that the database calls, in memory: what they were told is there to be looked at.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};
use weft_mesh::context;
use weft_proto::{
    cache::v1::{
        self as cache, Entity,
        cache_service_server::{CacheService, CacheServiceServer},
        get_response::Result as Outcome,
    },
    queue::v1::{
        self as queue,
        queue_service_server::{QueueService, QueueServiceServer},
    },
};
use weft_runtime::{
    Assembly, Listeners, Running, Scope, Service,
    config::{Admin, Lifecycle, Problems, Telemetry},
};

/// A value, or the lease of somebody who loads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Value(Bytes),
    Lease(Bytes),
}

/// What both services remember. It outlives their servers, as Redis outlives a cache process.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) slots: Mutex<HashMap<String, Slot>>,
    /// Publish calls in order: owner and request.
    pub(crate) published: Mutex<Vec<(String, queue::PublishRequest)>>,
}

impl Memory {
    pub(crate) fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap()
    }

    /// The jobs, each once, however often it was published: queue, owner, id.
    pub(crate) fn jobs(&self, queue: &str) -> Vec<(String, String)> {
        let published = self.published.lock().unwrap();
        let mut jobs: Vec<_> = published
            .iter()
            .filter(|(_, request)| request.queue == queue)
            .map(|(owner, request)| (owner.clone(), request.job_id.clone()))
            .collect();
        jobs.sort();
        jobs.dedup();
        jobs
    }
}

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    #[default]
    Cache,
    Queue,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    address: String,
    which: Which,
    admin: Admin,
    lifecycle: Lifecycle,
    telemetry: Telemetry,
    #[serde(skip)]
    memory: Arc<Memory>,
}

impl weft_runtime::Config for Config {
    fn address(&self) -> Option<&str> {
        Some(&self.address)
    }
    fn admin(&self) -> &Admin {
        &self.admin
    }
    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
    fn validate(&self, _: &mut Problems) {}
}

struct Peer;

impl Service for Peer {
    const NAME: &'static str = "peer";
    type Config = Config;

    async fn assemble(config: Config, scope: Scope) -> anyhow::Result<Assembly> {
        scope.ready.set(Ok(()));
        Ok(match config.which {
            Which::Cache => Assembly::grpc(CacheServiceServer::new(Cache(config.memory))),
            Which::Queue => Assembly::grpc(QueueServiceServer::new(Queue(config.memory))),
        })
    }
}

/// Serves one of them at an address.
pub(crate) async fn serve(which: Which, address: &str, memory: &Arc<Memory>) -> Running {
    let lifecycle = Lifecycle { drain_timeout: Duration::from_millis(100), ..Lifecycle::default() };
    let memory = Arc::clone(memory);
    let config = Config { address: address.to_owned(), which, lifecycle, memory, ..Config::default() };
    let listeners = weft_testkit::eventually_ok(crate::fixture::SLOW, || Listeners::bind(&config)).await;
    weft_runtime::start::<Peer>(config, listeners).await.unwrap()
}

struct Cache(Arc<Memory>);

#[tonic::async_trait]
impl CacheService for Cache {
    async fn get(&self, request: Request<cache::GetRequest>) -> Result<Response<cache::GetResponse>, Status> {
        let mut slots = self.0.slots();
        let key = request.into_inner().key;
        let result = match slots.get(&key) {
            Some(Slot::Value(value)) => Outcome::Hit(cache::Hit { value: value.clone() }),
            Some(Slot::Lease(_)) => {
                let retry_after = Duration::from_millis(5).try_into().ok();
                Outcome::Wait(cache::Wait { retry_after })
            }
            None => {
                let lease = Bytes::from(fastrand::u64(..).to_string());
                slots.insert(key, Slot::Lease(lease.clone()));
                Outcome::Miss(cache::Miss { lease })
            }
        };
        Ok(Response::new(cache::GetResponse { result: Some(result) }))
    }

    async fn fill(
        &self,
        request: Request<cache::FillRequest>,
    ) -> Result<Response<cache::FillResponse>, Status> {
        let fill = request.into_inner();
        let mut slots = self.0.slots();
        let stored = slots.get(&fill.key) == Some(&Slot::Lease(fill.lease));
        if stored {
            slots.insert(fill.key, Slot::Value(fill.value));
        }
        Ok(Response::new(cache::FillResponse { stored }))
    }

    async fn invalidate(
        &self,
        request: Request<cache::InvalidateRequest>,
    ) -> Result<Response<cache::InvalidateResponse>, Status> {
        let cache::InvalidateRequest { entity, id, owner } = request.into_inner();
        let keys = match Entity::try_from(entity) {
            Ok(Entity::User) => vec![format!("user:{id}"), "user_list".to_owned()],
            Ok(Entity::Chat) => vec![format!("chat:{id}"), format!("chat_list:{owner}")],
            Ok(Entity::Model) => vec![format!("model:{id}"), "model_list".to_owned()],
            Ok(Entity::Document) => vec![format!("document:{id}"), format!("document_list:{owner}")],
            _ => return Err(Status::invalid_argument("entity")),
        };
        let mut slots = self.0.slots();
        for key in &keys {
            slots.remove(key);
        }
        Ok(Response::new(cache::InvalidateResponse { keys }))
    }

    async fn get_many(
        &self,
        _: Request<cache::GetManyRequest>,
    ) -> Result<Response<cache::GetManyResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn set(&self, _: Request<cache::SetRequest>) -> Result<Response<cache::SetResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn set_many(
        &self,
        _: Request<cache::SetManyRequest>,
    ) -> Result<Response<cache::SetManyResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn delete(
        &self,
        _: Request<cache::DeleteRequest>,
    ) -> Result<Response<cache::DeleteResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn get_stats(
        &self,
        _: Request<cache::GetStatsRequest>,
    ) -> Result<Response<cache::GetStatsResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }
}

struct Queue(Arc<Memory>);

type Events = futures::stream::BoxStream<'static, Result<queue::WatchJobResponse, Status>>;

#[tonic::async_trait]
impl QueueService for Queue {
    async fn publish(
        &self,
        request: Request<queue::PublishRequest>,
    ) -> Result<Response<queue::PublishResponse>, Status> {
        let request = request.into_inner();
        let mut published = self.0.published.lock().unwrap();
        let existed = published.iter().any(|(_, known)| known.job_id == request.job_id);
        let job =
            queue::Job { id: request.job_id.clone(), queue: request.queue.clone(), ..Default::default() };
        published.push((context::user(), request));
        Ok(Response::new(queue::PublishResponse { job: Some(job), existed }))
    }

    async fn get_job(
        &self,
        _: Request<queue::GetJobRequest>,
    ) -> Result<Response<queue::GetJobResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    type WatchJobStream = Events;

    async fn watch_job(&self, _: Request<queue::WatchJobRequest>) -> Result<Response<Events>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn cancel_job(
        &self,
        _: Request<queue::CancelJobRequest>,
    ) -> Result<Response<queue::CancelJobResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn list_dead_jobs(
        &self,
        _: Request<queue::ListDeadJobsRequest>,
    ) -> Result<Response<queue::ListDeadJobsResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn redrive_jobs(
        &self,
        _: Request<queue::RedriveJobsRequest>,
    ) -> Result<Response<queue::RedriveJobsResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn discard_dead_jobs(
        &self,
        _: Request<queue::DiscardDeadJobsRequest>,
    ) -> Result<Response<queue::DiscardDeadJobsResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }

    async fn get_stats(
        &self,
        _: Request<queue::GetStatsRequest>,
    ) -> Result<Response<queue::GetStatsResponse>, Status> {
        Err(Status::unimplemented("the database does not call it"))
    }
}
