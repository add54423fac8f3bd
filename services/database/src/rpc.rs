//! The tonic services: decode and check, do, encode. One file per noun.

mod chats;
mod convert;
mod documents;
mod insight;
mod messages;
mod models;
mod notifications;
mod search;
mod upload;
mod users;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use weft_mesh::context;

pub(crate) use self::{
    chats::Chats, documents::Documents, insight::Insight, messages::Messages, models::Models,
    notifications::Notifications, search::Search, users::Users,
};
use crate::{
    error::Error,
    insight::Observer,
    outbox::Outbox,
    page::{self, PageRequest, Position, Scope, Sizes},
    read_through::ReadThrough,
    repository::{Committed, Repository},
};

/// Lists of a hundred by default.
const SIZES: Sizes = Sizes { default: 100, max: 1000 };
/// Lists that people look at.
const SMALL_SIZES: Sizes = Sizes { default: 50, max: 200 };

/// What every handler works with.
pub(crate) struct Core {
    pub(crate) repository: Repository,
    pub(crate) cache: Arc<ReadThrough>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) observer: Arc<Observer>,
    /// Bytes that uploads in progress may hold in memory, all together.
    pub(crate) upload_bytes: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
}

impl Core {
    /// Does what a write owes, as far as its caller waits for it.
    async fn settle<T>(&self, committed: Committed<T>) -> T {
        self.outbox.after_commit(committed.owed).await;
        committed.value
    }
}

/// The user on whose behalf the call is made.
fn caller() -> String {
    context::user()
}

/// Reads the page fields of a list request.
fn page(
    scope: Scope<'_>,
    sizes: Sizes,
    size: i32,
    token: &str,
    first: Position,
) -> Result<PageRequest, Error> {
    page::read(scope, sizes, size, token, first)
}

/// Puts what was found into the order asked for; what was not found is left out.
fn in_order<T: Clone>(ids: &[String], found: &[T], id: impl Fn(&T) -> &str) -> Vec<T> {
    let by_id: std::collections::HashMap<_, _> = found.iter().map(|one| (id(one), one)).collect();
    ids.iter().filter_map(|wanted| by_id.get(wanted.as_str()).map(|one| (*one).clone())).collect()
}
