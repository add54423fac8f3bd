//! A fresh database for a test.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use weft_database::{
    entities::Chunk,
    failpoint::Failpoint,
    insight::Observer,
    metrics::Metrics,
    page::{Page, PageRequest, Position},
    repository::{
        Begun, Committed, Dialect, Engine, Query, Repository, Row, Upload,
        chats::NewChat,
        documents::{NewDocument, Put},
        sqlite::{Sqlite, SqliteOptions},
    },
};

pub(crate) const SLOW: Duration = Duration::from_secs(20);

/// An engine on a database of its own, and what is on it.
pub(crate) struct Fixture {
    pub(crate) repository: Repository,
    pub(crate) observer: Arc<Observer>,
    pub(crate) place: Place,
    _stop: DropGuard,
}

/// Where a database is.
#[derive(Clone)]
pub(crate) enum Place {
    File(Arc<TempDir>),
    #[cfg(feature = "real-backends")]
    Server(String),
}

/// Few connections, so that tests can use them up.
pub(crate) const CONNECTIONS: u32 = 4;
/// Of an [`Fixture::impatient`] one.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(800);

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        Self::open(Place::File(Arc::new(TempDir::new().unwrap())), SLOW).await
    }

    #[cfg(feature = "real-backends")]
    pub(crate) async fn postgres() -> Self {
        let server = weft_testkit::Postgres::shared().await.unwrap();
        Self::open(Place::Server(server.database().await.unwrap()), SLOW).await
    }

    /// Another process, as it were, on the same database.
    pub(crate) async fn again(&self) -> Self {
        Self::open(self.place.clone(), SLOW).await
    }

    /// The same, with a short acquire timeout.
    pub(crate) async fn impatient(&self) -> Self {
        Self::open(self.place.clone(), ACQUIRE_TIMEOUT).await
    }

    pub(crate) async fn open(place: Place, acquire_timeout: Duration) -> Self {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let observer = |dialect| Arc::new(Observer::new(dialect, Duration::from_secs(1), Metrics::new()));
        let (engine, observer): (Arc<dyn Engine>, _) = match &place {
            Place::File(folder) => {
                let observer = observer(Dialect::Sqlite);
                let options = sqlite_options(folder.path().join("weft.db"), acquire_timeout);
                let opened = Sqlite::open(
                    options,
                    Arc::clone(&observer),
                    Failpoint::default(),
                    &tasks,
                    stopping.clone(),
                );
                (Arc::new(opened.await.unwrap()), observer)
            }
            #[cfg(feature = "real-backends")]
            Place::Server(url) => {
                let observer = observer(Dialect::Postgres);
                let options = postgres_options(url.clone(), acquire_timeout);
                let opened = weft_database::repository::postgres::Postgres::open(
                    &options,
                    Arc::clone(&observer),
                    Failpoint::default(),
                    &tasks,
                    stopping.clone(),
                );
                (Arc::new(opened.unwrap()), observer)
            }
        };
        let mut health = engine.health();
        drop(tokio::time::timeout(SLOW, health.wait_for(Result::is_ok)).await.unwrap().unwrap());
        let repository = Repository::new(engine, true);
        Self { repository, observer, place, _stop: stopping.drop_guard() }
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        self.repository.engine()
    }

    /// Runs one query.
    pub(crate) async fn rows(&self, query: Query, params: Vec<weft_database::repository::Param>) -> Vec<Row> {
        self.engine().reader().await.unwrap().rows(query, params).await.unwrap()
    }

    pub(crate) async fn chat(&self, owner: &str) -> String {
        self.repository.create_chat(owner, NewChat::default()).await.unwrap().value.id
    }

    pub(crate) async fn put(&self, owner: &str, path: &str, bytes: &str) -> Committed<Put> {
        let new = NewDocument {
            path: path.to_owned(),
            asset_id: bytes.to_owned(),
            content_type: "text/plain".to_owned(),
            size_bytes: bytes.len() as u64,
        };
        self.repository.put_document(owner, new).await.unwrap()
    }

    pub(crate) async fn upload(&self, owner: &str, document: &str, version: u64) -> Upload {
        match self.repository.begin_upload(owner, document, version).await.unwrap() {
            Begun::Wanted(upload) => upload,
            Begun::Ready(document) => panic!("{document:?} is ready"),
        }
    }

    /// A document that is searchable: its texts, with an embedding each.
    pub(crate) async fn ready(&self, owner: &str, path: &str, chunks: Vec<Chunk>) -> String {
        let put = self.put(owner, path, &format!("{path} {}", chunks.len())).await.value.document;
        let upload = self.upload(owner, &put.id, put.version).await;
        let count = u32::try_from(chunks.len()).unwrap();
        self.repository.complete_document(&upload, put.version, count, chunks).await.unwrap();
        put.id
    }
}

pub(crate) fn sqlite_options(path: PathBuf, acquire_timeout: Duration) -> SqliteOptions {
    SqliteOptions { path, flush: false, readers: CONNECTIONS, acquire_timeout, statement_timeout: SLOW }
}

#[cfg(feature = "real-backends")]
pub(crate) fn postgres_options(
    url: String,
    acquire_timeout: Duration,
) -> weft_database::repository::postgres::PostgresOptions {
    weft_database::repository::postgres::PostgresOptions {
        url,
        pool_max: CONNECTIONS,
        pool_min: 1,
        idle_timeout: Duration::from_secs(30),
        acquire_timeout,
        statement_timeout: SLOW,
    }
}

/// Chunks with these texts, and embeddings along different axes.
pub(crate) fn chunks(texts: &[&str]) -> Vec<Chunk> {
    let of = |(ordinal, text): (usize, &&str)| Chunk {
        ordinal: u32::try_from(ordinal).unwrap(),
        heading: String::new(),
        text: (*text).to_owned(),
        embedding: axis(ordinal),
    };
    texts.iter().enumerate().map(of).collect()
}

/// A unit vector.
pub(crate) fn axis(index: usize) -> Vec<f32> {
    let mut vector = vec![0.0; 8];
    vector[index % 8] = 1.0;
    vector
}

pub(crate) fn page(size: usize, after: Position) -> PageRequest {
    PageRequest { size, after, is_default: false }
}

/// Walks a list to its end, in pages of these sizes in turn.
pub(crate) async fn walk<T>(
    first: Position,
    sizes: &[usize],
    mut list: impl AsyncFnMut(PageRequest) -> Page<T>,
) -> Vec<T> {
    let (mut all, mut after) = (Vec::new(), first);
    for size in sizes.iter().cycle() {
        let got = list(page(*size, after)).await;
        assert!(got.rows.len() <= *size);
        all.extend(got.rows);
        match got.next {
            Some(next) => after = next,
            None => break,
        }
    }
    all
}
