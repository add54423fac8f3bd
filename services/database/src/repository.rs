//! The seam to the database: users, chats, messages, models, documents, notifications and the outbox, on SQLite and on
//! PostgreSQL.
//!
//! What differs between the two is the SQL text of some queries and how a transaction is run: that is [`Engine`] and
//! [`Session`], in [`sqlite`] and [`postgres`]. What is the same, the entities' logic, stands once, in one file each.
//! No SQL stands anywhere else.

pub mod chats;
mod chunks;
pub mod documents;
pub mod messages;
mod models;
mod notifications;
pub mod outbox;
pub mod postgres;
mod query;
mod row;
mod search;
pub mod sqlite;
mod transaction;
mod users;
mod wait;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

pub use self::{
    chunks::Begun,
    query::{Dialect, Query},
    row::{Param, Row},
    search::Ranked,
    transaction::{Committed, Transaction},
};
use crate::{entities::Chunk, error::Error};

/// A unit of work in one transaction.
pub type Job = Box<dyn for<'c> FnOnce(&'c mut dyn Session) -> BoxFuture<'c, Result<(), Error>> + Send>;

/// A database that runs registered queries in sessions.
///
/// Its contract, and that of the [`Repository`] on it, is kept by every implementation:
///
/// 1. A write is one transaction: when its job fails, nothing of it is stored.
/// 2. A read that begins after a write was acknowledged sees it.
/// 3. Writes that read and then change the same row do not lose each other's changes.
/// 4. A write whose caller goes away is stored wholly, or not at all.
/// 5. Migrations are applied once, however many processes start at the same time.
/// 6. Waiting for a connection ends with the caller's deadline, and with the acquire timeout.
/// 7. A connection is held only while a query or a transaction runs, so that many more callers than connections proceed.
/// 8. Every registered query runs under its name, is counted with its rows and time, and can be explained.
/// 9. Texts and numbers come back as they were stored, whatever characters they hold.
/// 10. Another owner's chat, document or notification is not there.
/// 11. Walking all pages of a list yields every row once and in order, ties included.
/// 12. The first write of an unknown user makes the user's record.
/// 13. The same idempotency key of an owner yields the first chat, or the first message and its job.
/// 14. Messages of a chat are numbered without gaps; the chat's count, time and last message follow them.
/// 15. A job has at most one reply, and at most one notification.
/// 16. Putting the same bytes changes nothing unless ingestion failed; other bytes make the next version.
/// 17. Completing a document replaces all its chunks at once; until then the chunks before are found.
/// 18. A result for an older version than the document has is refused and changes nothing.
/// 19. All embeddings of a database have one dimension; another one is refused naming the field.
/// 20. A search finds only the owner's searchable chunks: by text the ones that share words with it, rare words first,
///     by embedding the nearest, exactly.
/// 21. Deleting a user, a chat or a document deletes all that belongs to it.
/// 22. The effects a write owes are stored with it; a claimed effect is not claimed again before its time.
/// 23. When the server is away, calls fail at once as unavailable; when it is back, they work again by themselves.
pub trait Engine: Send + Sync + 'static {
    /// Which database it is.
    fn dialect(&self) -> Dialect;

    /// A session for reading: each query sees the newest committed state.
    fn reader(&self) -> BoxFuture<'_, Result<Box<dyn Session + '_>, Error>>;

    /// Runs a job in a transaction and commits it.
    fn write(&self, job: Job) -> BoxFuture<'_, Result<(), Error>>;

    /// What the database says of how it would run a query.
    fn explain(&self, query: Query) -> BoxFuture<'_, Result<String, Error>>;

    /// The state of its connections.
    fn pool(&self) -> PoolState;

    /// Whether the database answers; the error says why not.
    fn health(&self) -> watch::Receiver<Result<(), String>>;
}

/// A connection in use. Dropping it, or a future of it, at any point is safe: nothing half-done is committed or reused.
pub trait Session: Send {
    /// Runs a query and collects its rows.
    fn rows<'a>(&'a mut self, query: Query, params: Vec<Param>) -> BoxFuture<'a, Result<Vec<Row>, Error>>;

    /// Runs a statement; how many rows it changed.
    fn execute<'a>(&'a mut self, query: Query, params: Vec<Param>) -> BoxFuture<'a, Result<u64, Error>>;

    /// Stores chunks of one upload of a document.
    fn store_chunks<'a>(
        &'a mut self,
        upload: &'a Upload,
        chunks: Vec<Chunk>,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Drops chunks of a document.
    fn drop_chunks<'a>(&'a mut self, document_id: &'a str, which: Which) -> BoxFuture<'a, Result<(), Error>>;

    /// The owner's `limit` nearest searchable chunks, nearest first.
    fn nearest<'a>(
        &'a mut self,
        owner: &'a str,
        embedding: &'a [f32],
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Ranked>, Error>>;

    /// How this database spells a search for any of some words, which are lower-case letters and digits.
    fn any_of(&self, words: &[String]) -> Param;
}

/// Chunks on their way into a document: they are searchable once the document's generation is theirs.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Whose.
    pub owner: String,
    /// The document.
    pub document_id: String,
    /// Its path, which is searchable too.
    pub path: String,
    /// The upload's own number, never 0.
    pub generation: i64,
}

/// Which chunks of a document are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of one upload.
    Of(i64),
    /// Those of every other upload.
    ExceptOf(i64),
}

/// The state of a pool of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolState {
    /// Connections open.
    pub open: u32,
    /// Of these, idle.
    pub idle: u32,
    /// The most there may be.
    pub max: u32,
    /// Callers waiting for one.
    pub waiting: u32,
    /// Callers that waited longer than the acquire timeout, since the start.
    pub timeouts: u64,
}

/// The entities, on whichever engine.
#[derive(Clone)]
pub struct Repository {
    engine: Arc<dyn Engine>,
    /// Whether writes owe the cache an invalidation.
    has_cache: bool,
}

impl Repository {
    /// On an engine. `has_cache` says whether writes note invalidations in the outbox.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, has_cache: bool) -> Self {
        Self { engine, has_cache }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Runs one query outside of a transaction.
    async fn read(&self, query: Query, params: Vec<Param>) -> Result<Vec<Row>, Error> {
        self.engine.reader().await?.rows(query, params).await
    }

    async fn read_one(&self, query: Query, params: Vec<Param>) -> Result<Option<Row>, Error> {
        Ok(self.read(query, params).await?.into_iter().next())
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("engine", &self.engine.dialect()).finish_non_exhaustive()
    }
}
