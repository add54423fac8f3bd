//! PostgreSQL, with pgvector: a bounded pool, and a supervisor that knows whether the server is there.

mod chunks;
mod failure;
mod held;
mod migration;
mod session;
mod supervisor;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Row as _,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{failure::failed, held::Held, session::PostgresSession, supervisor::Supervisor};
use super::{Dialect, Engine, Job, PoolState, Query, Session, wait::Waiters};
use crate::{
    error::Error,
    failpoint::{Failpoint, Point},
    insight::Observer,
};

/// The schema that holds all tables, so that the database may be shared with other programs.
pub const SCHEMA: &str = "weft_database";
/// A connection that takes longer than this to come makes one ask whether the server is there.
const SLOW_ACQUIRE: Duration = Duration::from_millis(250);
/// A connection idle for longer is asked whether it still lives before it is used.
const FRESH: Duration = Duration::from_secs(1);
/// How often a transaction that could not even begin is tried on another connection.
const BEGINNINGS: usize = 3;

/// How the server is reached and used.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// Connections at most.
    pub pool_max: u32,
    /// Connections kept open.
    pub pool_min: u32,
    /// After which an idle connection above the minimum is closed.
    pub idle_timeout: Duration,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
    /// How long a query may take.
    pub statement_timeout: Duration,
}

/// A PostgreSQL database.
pub struct Postgres {
    pool: PgPool,
    waiters: Waiters,
    observer: Arc<Observer>,
    failpoint: Failpoint,
    statement_timeout: Duration,
    supervisor: Arc<Supervisor>,
}

impl Postgres {
    /// Begins to reach for the server, in the background: it need not be there yet.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn open(
        options: &PostgresOptions,
        observer: Arc<Observer>,
        failpoint: Failpoint,
        tasks: &TaskTracker,
        draining: CancellationToken,
    ) -> Result<Self, Error> {
        let connect = connect_options(options)?;
        let supervisor = Arc::new(Supervisor::new(connect.clone()));
        let suspects = Arc::clone(&supervisor);
        let pool = PgPoolOptions::new()
            .max_connections(options.pool_max)
            .min_connections(options.pool_min.min(options.pool_max))
            .idle_timeout(options.idle_timeout)
            // Ours is the one that counts.
            .acquire_timeout(options.acquire_timeout * 2)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let suspect = meta.idle_for > FRESH || suspects.broke_since(meta.age);
                async move { if suspect { lives(connection).await } else { Ok(true) } }.boxed()
            })
            .connect_lazy_with(connect);
        tasks.spawn(Arc::clone(&supervisor).run(pool.clone(), draining));
        Ok(Self {
            pool,
            waiters: Waiters::new(options.acquire_timeout),
            observer,
            failpoint,
            statement_timeout: options.statement_timeout,
            supervisor,
        })
    }

    async fn hold(&self) -> Result<Held, Error> {
        let mut health = self.supervisor.health();
        tokio::select! {
            biased;
            reason = supervisor::down(&mut health) => Err(Error::Unavailable { server: "postgres", reason }),
            acquired = self.waiters.wait(self.acquire()) => Ok(Held::new(acquired??, Arc::clone(&self.supervisor))),
        }
    }

    async fn acquire(&self) -> Result<PoolConnection<sqlx::Postgres>, Error> {
        let mut acquire = std::pin::pin!(self.pool.acquire());
        let early = tokio::time::timeout(SLOW_ACQUIRE, &mut acquire).await;
        let acquired = match early {
            Ok(acquired) => acquired,
            Err(_) => {
                self.supervisor.doubt();
                acquire.await
            }
        };
        acquired.map_err(|error| {
            self.supervisor.doubt();
            failed("connect", error)
        })
    }

    /// A connection on which a transaction has begun.
    async fn begin(&self) -> Result<Held, Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut held = self.hold().await?;
            match self.control(&mut held, "BEGIN").await {
                Ok(()) => return Ok(held),
                // Nothing has been done yet: the next connection may be in better health.
                Err(Error::Unavailable { .. }) if attempts < BEGINNINGS => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn transact(&self, job: Job) -> Result<(), Error> {
        let mut held = self.begin().await?;
        held.in_transaction(true);
        let mut session = PostgresSession::new(held, Arc::clone(&self.observer), self.statement_timeout);
        let result = job(&mut session).await;
        let mut held = session.into_held();
        if result.is_err() {
            // A connection that cannot roll back is closed, which rolls back too.
            if held.is_usable() && self.control(&mut held, "ROLLBACK").await.is_ok() {
                held.in_transaction(false);
            }
            return result;
        }
        self.failpoint.reach(Point::BeforeCommit);
        self.control(&mut held, "COMMIT").await?;
        held.in_transaction(false);
        self.failpoint.reach(Point::AfterCommit);
        Ok(())
    }

    /// Runs a statement that controls the transaction.
    async fn control(&self, held: &mut Held, sql: &'static str) -> Result<(), Error> {
        let run = held.run(|connection| connection.execute(sql).boxed(), sql);
        self.supervisor.within(self.statement_timeout, run).await.map(drop)
    }

    async fn plan(&self, sql: &'static str) -> Result<String, Error> {
        let mut held = self.hold().await?;
        let explained = held.run(|connection| explain(connection, sql).boxed(), "explain").await;
        // Its settings and prepared statements are not those of the others any more.
        let forget = held
            .run(|connection| connection.execute("DEALLOCATE ALL; RESET plan_cache_mode").boxed(), "explain");
        drop(forget.await);
        held.retire();
        explained
    }
}

impl Engine for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn reader(&self) -> BoxFuture<'_, Result<Box<dyn Session + '_>, Error>> {
        async move {
            let held = self.hold().await?;
            let session = PostgresSession::new(held, Arc::clone(&self.observer), self.statement_timeout);
            Ok(Box::new(session) as Box<dyn Session + '_>)
        }
        .boxed()
    }

    fn write(&self, job: Job) -> BoxFuture<'_, Result<(), Error>> {
        self.transact(job).boxed()
    }

    fn explain(&self, query: Query) -> BoxFuture<'_, Result<String, Error>> {
        async move {
            let sql = query.sql(Dialect::Postgres).ok_or_else(|| Error::not_found("query", query.name()))?;
            self.plan(sql).await
        }
        .boxed()
    }

    fn pool(&self) -> PoolState {
        PoolState {
            open: self.pool.size(),
            idle: u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX),
            max: self.pool.options().get_max_connections(),
            waiting: self.waiters.waiting(),
            timeouts: self.waiters.timeouts(),
        }
    }

    fn health(&self) -> watch::Receiver<Result<(), String>> {
        self.supervisor.health()
    }
}

fn connect_options(options: &PostgresOptions) -> Result<PgConnectOptions, Error> {
    let parsed: PgConnectOptions = options
        .url
        .parse()
        // Its text may hold the password.
        .map_err(|_: sqlx::Error| Error::internal("database.url is not a PostgreSQL URL"))?;
    let timeout = options.statement_timeout.as_millis().to_string();
    Ok(parsed
        .application_name("weft-database")
        .options([
            ("search_path", format!("{SCHEMA},public").as_str()),
            ("statement_timeout", &timeout),
            ("idle_in_transaction_session_timeout", &timeout),
            // A plan made while the tables were empty reads all of them, and would be kept while they grow.
            ("plan_cache_mode", "force_custom_plan"),
        ])
        .disable_statement_logging())
}

async fn lives(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    Ok(matches!(tokio::time::timeout(FRESH, connection.ping()).await, Ok(Ok(()))))
}

/// The generic plan: what the server would do without knowing the parameters.
async fn explain(connection: &mut PgConnection, sql: &'static str) -> Result<String, sqlx::Error> {
    let count = (1..=20).take_while(|n| sql.contains(&format!("${n}"))).count();
    let nulls = vec!["NULL"; count].join(", ");
    let arguments = if count == 0 { String::new() } else { format!("({nulls})") };
    let prepare = format!("SET plan_cache_mode = force_generic_plan; PREPARE weft_explain AS {sql}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *connection).await?;
    let execute = format!("EXPLAIN EXECUTE weft_explain{arguments}");
    let rows = sqlx::raw_sql(AssertSqlSafe(execute)).fetch_all(&mut *connection).await?;
    let lines = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.join("\n"))
}
