//! What a write owes to the rest of the mesh: done at once on the fast path, and again by the relay until it is done.
//!
//! An effect is stored with the write that owes it. After the commit its process does it directly and strikes it out;
//! if the process dies before that, or the other service is away, some relay claims the effect when it is due and does
//! it then. Nothing is lost, and nothing happens twice: invalidations and publishing by job id are idempotent.

mod relay;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::sync::Notify;
use weft_mesh::{
    Channel,
    context::{self, Context},
    error::CallError,
};
use weft_proto::queue::v1::{PublishRequest, queue_service_client::QueueServiceClient};

use crate::{
    breaker::Breaker,
    error::Error,
    failpoint::{Failpoint, Point},
    metrics::Metrics,
    read_through::ReadThrough,
    repository::{
        Repository,
        outbox::{Effect, Owed, Urgency},
    },
};

/// Does what writes owe.
pub struct Outbox {
    repository: Repository,
    cache: Arc<ReadThrough>,
    queue: Option<QueueServiceClient<Channel>>,
    queue_breaker: Breaker,
    /// How long a write waits for its effects.
    patience: Duration,
    failpoint: Failpoint,
    metrics: Metrics,
    wake: Notify,
    /// Effects that have happened and are not struck out yet.
    happened: Mutex<Vec<String>>,
    /// Whether this process has stored effects that nobody waits for.
    owing: AtomicBool,
}

/// What the outbox works with.
pub struct Parts {
    /// Where effects are stored.
    pub repository: Repository,
    /// The cache.
    pub cache: Arc<ReadThrough>,
    /// The queue, if there is one.
    pub queue: Option<QueueServiceClient<Channel>>,
    /// How long a write waits for its effects.
    pub patience: Duration,
    /// For tests.
    pub failpoint: Failpoint,
    /// The instruments.
    pub metrics: Metrics,
}

impl Outbox {
    /// An outbox; its relay is [`Outbox::relay`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            repository: parts.repository,
            cache: parts.cache,
            queue: parts.queue,
            queue_breaker: Breaker::default(),
            patience: parts.patience,
            failpoint: parts.failpoint,
            metrics: parts.metrics,
            wake: Notify::new(),
            happened: Mutex::new(Vec::new()),
            owing: AtomicBool::new(false),
        }
    }

    /// Does what a write owes, as far as its caller waits for it; the rest is left to the relay. Dropping the future,
    /// or running out of patience, leaves all of it to the relay.
    pub async fn after_commit(&self, owed: Vec<Owed>) {
        let (awaited, relayed): (Vec<_>, Vec<_>) =
            owed.into_iter().partition(|owed| owed.effect.urgency() == Urgency::Awaited);
        if !relayed.is_empty() {
            self.wake();
        }
        let now = async {
            // Nobody shall be told of a change and then read what was before it: the cache forgets first.
            let (forgotten, told): (Vec<_>, Vec<_>) =
                awaited.into_iter().partition(|owed| matches!(owed.effect, Effect::Invalidate { .. }));
            join_all(forgotten.into_iter().map(|owed| self.attempt_now(owed))).await;
            join_all(told.into_iter().map(|owed| self.attempt_now(owed))).await;
        };
        drop(tokio::time::timeout(context::remaining(self.patience), now).await);
    }

    async fn attempt_now(&self, owed: Owed) {
        if self.attempt(&owed, self.patience).await.is_ok() {
            self.settle_later(owed.id);
        }
    }

    /// Has the relay look for what is due now.
    pub fn wake(&self) {
        self.owing.store(true, Relaxed);
        self.wake.notify_one();
    }

    /// Does one effect on its owner's behalf.
    async fn attempt(&self, owed: &Owed, patience: Duration) -> Result<(), Error> {
        let result = match &owed.effect {
            Effect::Invalidate { entity, id } => self.cache.invalidate(*entity, id, &owed.owner).await,
            Effect::Publish { queue, r#type, payload, job_id, .. } => {
                let request = PublishRequest {
                    queue: queue.clone(),
                    r#type: r#type.clone(),
                    payload: payload.clone().into(),
                    job_id: job_id.clone(),
                    ..PublishRequest::default()
                };
                self.publish(&owed.owner, request, patience).await
            }
        };
        self.metrics.effect(&owed.effect, result.is_ok());
        if result.is_ok() && matches!(owed.effect, Effect::Publish { .. }) {
            self.failpoint.reach(Point::AfterPublish);
        }
        result
    }

    async fn publish(&self, owner: &str, request: PublishRequest, patience: Duration) -> Result<(), Error> {
        let away = |message: &str| {
            let error = Error::Unavailable { server: "queue", reason: message.to_owned() };
            Error::Remote { service: "queue", source: CallError::from(weft_mesh::error::status(error)) }
        };
        let Some(mut client) = self.queue.clone() else { return Err(away("no queue is configured")) };
        if !self.queue_breaker.allows(Instant::now()) {
            return Err(away("failed just now"));
        }
        let context = Context::acting_for(owner).until(Instant::now() + patience);
        let call = context::scope(context, async move { client.publish(request).await });
        let result = tokio::time::timeout(patience, call)
            .await
            .unwrap_or_else(|_| Err(weft_mesh::error::status(Error::DeadlineExceeded)));
        let result = result.map(drop).map_err(CallError::from);
        self.queue_breaker
            .note(result.as_ref().err().is_none_or(|error| !error.kind.retryable()), Instant::now());
        result.map_err(|source| Error::Remote { service: "queue", source })
    }

    /// Has the relay strike an effect out, together with others.
    fn settle_later(&self, id: String) {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        self.wake.notify_one();
    }
}
