//! Reads through the cache service: it answers, or hands out a lease to whoever loads.
//!
//! A dead cache costs a moment of latency, never an answer: every call to it is bounded, and after some failures in a
//! row it is left alone for a second.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use weft_mesh::{
    Channel,
    context::{self, Context},
    error::{CallError, ErrorKind},
};
use weft_proto::cache::v1::{
    Entity as CacheEntity, FillRequest, GetRequest, InvalidateRequest, Miss,
    cache_service_client::CacheServiceClient, get_response::Result as Outcome,
};

use crate::{
    breaker::Breaker,
    error::Error,
    metrics::{CacheRead, Metrics},
    repository::outbox::Entity,
};

/// The longest a reader waits for another one's load before it loads itself.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// What is cached: an entity, or the first page of a list in its default size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// An entity under its id.
    Entity(Entity, String),
    /// Users.
    UserList,
    /// Models.
    ModelList,
    /// The chats of a user.
    ChatList(String),
    /// The documents of a user.
    DocumentList(String),
}

/// The cache in front of the repository; or none, when no cache is configured.
pub struct ReadThrough {
    client: Option<CacheServiceClient<Channel>>,
    patience: Duration,
    breaker: Breaker,
    metrics: Metrics,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What the cache says of a key.
enum Answer {
    Hit(Bytes),
    /// Nothing; what is loaded may be filled in under the lease.
    Miss(Bytes),
    Wait(Duration),
    Unavailable,
}

impl Key {
    /// The pattern: `user`, `chat_list`, …
    #[must_use]
    pub const fn pattern(&self) -> &'static str {
        match self {
            Self::Entity(entity, _) => entity.name(),
            Self::UserList => "user_list",
            Self::ModelList => "model_list",
            Self::ChatList(_) => "chat_list",
            Self::DocumentList(_) => "document_list",
        }
    }

    /// As the cache spells it.
    #[must_use]
    pub fn spelled(&self) -> String {
        match self {
            Self::UserList | Self::ModelList => self.pattern().to_owned(),
            Self::Entity(_, id) | Self::ChatList(id) | Self::DocumentList(id) => {
                format!("{}:{id}", self.pattern())
            }
        }
    }
}

impl ReadThrough {
    /// In front of a repository. `patience` bounds every call to the cache.
    #[must_use]
    pub fn new(client: Option<CacheServiceClient<Channel>>, patience: Duration, metrics: Metrics) -> Self {
        Self {
            client,
            patience,
            breaker: Breaker::default(),
            metrics,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Whether there is a cache.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        self.client.is_some()
    }

    /// Cacheable reads answered by the cache, and by the database, since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed))
    }

    /// Reads a key from the cache, else loads it and fills it in if nothing has changed since. What is absent is not
    /// cached.
    ///
    /// # Errors
    /// Those of `load`; the cache causes none.
    pub async fn read<M, L>(&self, key: &Key, load: L) -> Result<Option<M>, Error>
    where
        M: Message + Default,
        L: Future<Output = Result<Option<M>, Error>>,
    {
        if self.client.is_none() {
            return load.await;
        }
        let answer = match self.get(key).await {
            Answer::Wait(pause) => {
                tokio::time::sleep(pause.min(LONGEST_WAIT)).await;
                self.get(key).await
            }
            answer => answer,
        };
        if let Answer::Hit(value) = &answer
            && let Ok(message) = M::decode(value.clone())
        {
            self.count(key, CacheRead::Hit);
            return Ok(Some(message));
        }
        let unavailable = matches!(answer, Answer::Unavailable);
        self.count(key, if unavailable { CacheRead::Unavailable } else { CacheRead::Miss });
        let loaded = load.await?;
        if let (Answer::Miss(lease), Some(message)) = (answer, &loaded)
            && !lease.is_empty()
        {
            self.fill(key, lease, message).await;
        }
        Ok(loaded)
    }

    /// Has the cache forget an entity and the lists it is in.
    ///
    /// # Errors
    /// When the cache cannot be reached, or refuses.
    pub async fn invalidate(&self, entity: Entity, id: &str, owner: &str) -> Result<(), Error> {
        let Some(mut client) = self.client.clone() else { return Ok(()) };
        if !self.breaker.allows(Instant::now()) {
            let error = Error::Unavailable { server: "cache", reason: "failed just now".to_owned() };
            return Err(Error::Remote {
                service: "cache",
                source: CallError::from(weft_mesh::error::status(error)),
            });
        }
        let request = InvalidateRequest {
            entity: match entity {
                Entity::User => CacheEntity::User,
                Entity::Chat => CacheEntity::Chat,
                Entity::Model => CacheEntity::Model,
                Entity::Document => CacheEntity::Document,
            }
            .into(),
            id: id.to_owned(),
            owner: owner.to_owned(),
        };
        self.call(async move { client.invalidate(request).await }).await.map(drop)
    }

    async fn get(&self, key: &Key) -> Answer {
        let Some(mut client) = self.client.clone() else { return Answer::Unavailable };
        if !self.breaker.allows(Instant::now()) {
            return Answer::Unavailable;
        }
        let request = GetRequest { key: key.spelled() };
        match self.call(async move { client.get(request).await }).await.map(|response| response.result) {
            Ok(Some(Outcome::Hit(hit))) => Answer::Hit(hit.value),
            Ok(Some(Outcome::Miss(Miss { lease }))) => Answer::Miss(lease),
            Ok(Some(Outcome::Wait(wait))) => {
                let after = wait.retry_after.and_then(|after| Duration::try_from(after).ok());
                Answer::Wait(after.unwrap_or(LONGEST_WAIT))
            }
            Ok(None) | Err(_) => Answer::Unavailable,
        }
    }

    async fn fill(&self, key: &Key, lease: Bytes, message: &impl Message) {
        let Some(mut client) = self.client.clone() else { return };
        let value = Bytes::from(message.encode_to_vec());
        let request = FillRequest { key: key.spelled(), lease, value, ttl: None };
        // Refused or failed: the next reader loads.
        drop(self.call(async move { client.fill(request).await }).await);
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Error> {
        let patience = context::remaining(self.patience);
        let deadline = Instant::now() + patience;
        let bounded = context::scope(Context { deadline: Some(deadline), ..context::current() }, call);
        let answered = tokio::time::timeout(patience, bounded).await;
        let result = match answered {
            Ok(result) => result.map(tonic::Response::into_inner).map_err(CallError::from),
            Err(_) => Err(CallError::from(weft_mesh::error::status(Error::DeadlineExceeded))),
        };
        let reached = result
            .as_ref()
            .err()
            .is_none_or(|error| !error.kind.retryable() && error.kind != ErrorKind::Internal);
        self.breaker.note(reached, Instant::now());
        result.map_err(|source| Error::Remote { service: "cache", source })
    }

    fn count(&self, key: &Key, read: CacheRead) {
        let counter = if read == CacheRead::Hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
        self.metrics.cache_read(key.pattern(), read);
    }
}
