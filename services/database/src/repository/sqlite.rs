//! SQLite: one writer that commits in groups, several readers, write-ahead log.
//!
//! Durability: with `synchronous = NORMAL` a commit survives the death of the process at any moment; a power cut may
//! take back the last commits, never a part of one. `FULL` flushes every group and closes that gap.

mod chunks;
mod session;
mod vector;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, Row as _, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{session::SqliteSession, writer::Writer};
use super::{Dialect, Engine, Job, PoolState, Query, Session};
use crate::{error::Error, failpoint::Failpoint, insight::Observer, repository::wait::Waiters};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

/// How the file is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file; its directory is there.
    pub path: PathBuf,
    /// Whether every commit is flushed to the disk.
    pub flush: bool,
    /// Connections for reading.
    pub readers: u32,
    /// How long to wait for one of them.
    pub acquire_timeout: Duration,
    /// How long a query may take.
    pub statement_timeout: Duration,
}

/// A SQLite database in a file.
pub struct Sqlite {
    readers: sqlx::SqlitePool,
    writer: Writer,
    waiters: Waiters,
    observer: Arc<Observer>,
    statement_timeout: Duration,
    health: watch::Sender<Result<(), String>>,
}

impl Sqlite {
    /// Opens the file, creates it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was made by a newer release.
    pub async fn open(
        options: SqliteOptions,
        observer: Arc<Observer>,
        failpoint: Failpoint,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Result<Self, Error> {
        let connect = connect_options(&options);
        let writing = migrate(&options.path, &connect).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // Ours is the one that counts.
            .acquire_timeout(options.acquire_timeout * 2)
            .connect_lazy_with(connect.read_only(true).pragma("query_only", "ON"));
        let writer = Writer::start(writing, Arc::clone(&observer), failpoint, tasks, stopping);
        Ok(Self {
            readers,
            writer,
            waiters: Waiters::new(options.acquire_timeout),
            observer,
            statement_timeout: options.statement_timeout,
            health: watch::Sender::new(Ok(())),
        })
    }
}

impl Engine for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn reader(&self) -> BoxFuture<'_, Result<Box<dyn Session + '_>, Error>> {
        async move {
            let connection =
                self.waiters.wait(self.readers.acquire()).await?.map_err(|error| failed("open", error))?;
            let session = SqliteSession::reading(connection, &self.observer, self.statement_timeout);
            Ok(Box::new(session) as Box<dyn Session + '_>)
        }
        .boxed()
    }

    fn write(&self, job: Job) -> BoxFuture<'_, Result<(), Error>> {
        self.writer.run(job).boxed()
    }

    fn explain(&self, query: Query) -> BoxFuture<'_, Result<String, Error>> {
        async move {
            let sql = query.sql(Dialect::Sqlite).ok_or_else(|| Error::not_found("query", query.name()))?;
            let mut connection =
                self.waiters.wait(self.readers.acquire()).await?.map_err(|error| failed("open", error))?;
            let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let rows = connection.fetch_all(explain).await.map_err(|error| failed("explain", error))?;
            plan(&rows).map_err(|error| failed("explain", error))
        }
        .boxed()
    }

    fn pool(&self) -> PoolState {
        PoolState {
            // The writer's connection is open always and no caller's.
            open: self.readers.size() + 1,
            idle: u32::try_from(self.readers.num_idle()).unwrap_or(u32::MAX),
            max: self.readers.options().get_max_connections() + 1,
            waiting: self.waiters.waiting(),
            timeouts: self.waiters.timeouts(),
        }
    }

    fn health(&self) -> watch::Receiver<Result<(), String>> {
        self.health.subscribe()
    }
}

fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&options.path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if options.flush { SqliteSynchronous::Full } else { SqliteSynchronous::Normal })
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-8000")
        .pragma("mmap_size", "134217728")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

/// Opens the writing connection and applies the migrations, one process at a time.
async fn migrate(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    let place = path.to_owned();
    let lock = tokio::task::spawn_blocking(move || lock_file(&place)).await;
    let lock = lock.map_err(|error| Error::caused("cannot lock the database", error))??;
    let mut connection = options.connect().await.map_err(|error| failed("open", error))?;
    let applied = MIGRATIONS.run_direct(None, &mut connection, false).await;
    applied.map_err(|error| Error::caused(format!("cannot migrate {}", path.display()), error))?;
    connection.ping().await.map_err(|error| failed("open", error))?;
    drop(lock);
    Ok(connection)
}

/// Holds other processes off until it is dropped, or this process dies.
fn lock_file(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = File::options().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|error| Error::caused(format!("cannot open {}", name.display()), error))?;
    file.lock().map_err(|error| Error::caused(format!("cannot lock {}", name.display()), error))?;
    Ok(file)
}

/// Indents the rows of EXPLAIN QUERY PLAN by their parents.
fn plan(rows: &[sqlx::sqlite::SqliteRow]) -> Result<String, sqlx::Error> {
    let mut depths = std::collections::HashMap::new();
    let mut lines = Vec::new();
    for row in rows {
        let (id, parent, detail): (i64, i64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
        let depth = depths.get(&parent).map_or(0, |depth| depth + 1);
        depths.insert(id, depth);
        lines.push(format!("{}{detail}", "  ".repeat(depth)));
    }
    Ok(lines.join("\n"))
}

/// What a failure of SQLite means to a caller.
fn failed(doing: &str, error: sqlx::Error) -> Error {
    const BUSY: [&str; 2] = ["5", "6"];
    const FULL: &str = "13";
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Error::PoolExhausted;
    }
    let code = error.as_database_error().and_then(|error| error.code());
    // Extended codes keep the primary one in their low byte.
    let primary = code.and_then(|code| code.parse::<u32>().ok()).map(|code| (code & 0xff).to_string());
    match primary.as_deref() {
        Some(code) if BUSY.contains(&code) => {
            Error::Unavailable { server: "sqlite", reason: "another process holds the database".to_owned() }
        }
        Some(FULL) => Error::Unavailable { server: "sqlite", reason: "the disk is full".to_owned() },
        _ => Error::caused(format!("sqlite cannot {doing}"), error),
    }
}
