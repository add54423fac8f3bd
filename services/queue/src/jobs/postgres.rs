//! Jobs in PostgreSQL, in the schema `weft_queue`: any number of replicas share them.

mod queries;
#[cfg(test)]
#[cfg(feature = "real-backends")]
mod tests;

use std::{future::Future, str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{
    Change, Claimed, DeadPage, Depth, ExpiredLease, Inserted, Jobs, Pending, Rejection, Result,
    row::{self, DepthRow, EventRow, JobRow, PendingRow, Work, signed},
};
use crate::{
    clock::Millis,
    error::Error,
    job::{
        Job, NewJob, Queue, Recorded,
        machine::{self, Command},
    },
};

/// How the pool behaves.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// The most connections.
    pub max_connections: u32,
    /// How long an operation may take in all, waiting for a connection included.
    pub timeout: Duration,
}

/// Jobs in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresJobs {
    pool: PgPool,
    options: PgConnectOptions,
    timeout: Duration,
    migrated: OnceCell<()>,
}

impl PostgresJobs {
    /// Prepares the pool. Connects when first used, so that a server that is down delays nothing; the tables are
    /// brought up to date then.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn new(url: &str, limits: PoolLimits) -> Result<PostgresJobs> {
        let options = PgConnectOptions::from_str(url)
            .map_err(Error::unavailable)?
            .application_name("weft-queue")
            .options([("search_path", "weft_queue")]);
        let pool = PgPoolOptions::new()
            .max_connections(limits.max_connections)
            .acquire_timeout(limits.timeout)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.clone());
        Ok(PostgresJobs { pool, options, timeout: limits.timeout, migrated: OnceCell::new() })
    }

    /// Runs an operation within the timeout, with the tables up to date.
    async fn bounded<T>(&self, operation: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let all = async {
            self.migrated.get_or_try_init(|| migrate(self.options.clone())).await?;
            operation.await
        };
        match tokio::time::timeout(self.timeout, all).await {
            Ok(result) => result,
            Err(elapsed) => Err(Error::unavailable(elapsed)),
        }
    }

    /// Runs an update of pending jobs: of a time, their ids and epochs.
    async fn of_pending(&self, update: &'static str, jobs: &[Pending], time: Millis) -> Result<()> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
        let epochs: Vec<i64> = jobs.iter().map(|job| signed(job.epoch)).collect();
        self.bounded(async {
            let update = sqlx::query(update).bind(time).bind(ids).bind(epochs);
            update.execute(&self.pool).await.map_err(failed).map(drop)
        })
        .await
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        self.pool.begin().await.map_err(failed)
    }
}

/// One replica at a time: the others wait at the advisory lock, and then find nothing to do.
async fn migrate(options: PgConnectOptions) -> Result<()> {
    // The lock belongs to a session, so there is but one connection.
    let session = PgPoolOptions::new().max_connections(1).connect_with(options).await.map_err(failed)?;
    sqlx::query(queries::LOCK_MIGRATIONS).execute(&session).await.map_err(failed)?;
    sqlx::query(queries::CREATE_SCHEMA).execute(&session).await.map_err(failed)?;
    sqlx::migrate!("migrations/postgres").run(&session).await.map_err(Error::unavailable)?;
    session.close().await; // and with it the lock
    Ok(())
}

#[async_trait]
impl Jobs for PostgresJobs {
    fn backend(&self) -> &'static str {
        "postgres"
    }

    async fn insert(&self, jobs: &[NewJob], now: Millis) -> Result<Vec<Inserted>> {
        self.bounded(async {
            let mut tx = self.begin().await?;
            let mut inserted = Vec::with_capacity(jobs.len());
            for new in jobs {
                inserted.push(insert_one(&mut tx, new, now).await?);
            }
            tx.commit().await.map_err(failed)?;
            Ok(inserted)
        })
        .await
    }

    async fn get(&self, ids: &[Uuid]) -> Result<Vec<Job>> {
        self.bounded(async {
            let query = sqlx::query_as(queries::JOBS_BY_ID).bind(ids);
            decode_jobs(query.fetch_all(&self.pool).await.map_err(failed)?)
        })
        .await
    }

    async fn payload(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        self.bounded(async {
            let query = sqlx::query_scalar(queries::PAYLOAD).bind(id);
            query.fetch_optional(&self.pool).await.map_err(failed)
        })
        .await
    }

    async fn due(&self, queue: Queue, limit: u32, now: Millis) -> Result<Vec<Pending>> {
        self.bounded(async {
            let query = sqlx::query_as(queries::DUE).bind(code(queue)).bind(now).bind(i64::from(limit));
            decode_pending(query.fetch_all(&self.pool).await.map_err(failed)?)
        })
        .await
    }

    async fn claim(
        &self,
        ids: &[Uuid],
        worker: &str,
        lease_until: Millis,
        now: Millis,
    ) -> Result<Vec<Claimed>> {
        self.bounded(async {
            let mut tx = self.begin().await?;
            let mut work = load(&mut tx, queries::LOCK_CLAIMABLE, ids).await?;
            let command = Command::Claim { worker: worker.to_owned(), lease_until };
            let mut jobs = Vec::with_capacity(ids.len());
            for id in ids {
                jobs.extend(work.apply(&Change::new(*id, command.clone()), now)?);
            }
            save(&mut tx, &work).await?;
            let claimed = with_payloads(&mut tx, jobs).await?;
            tx.commit().await.map_err(failed)?;
            Ok(claimed)
        })
        .await
    }

    async fn apply(
        &self,
        changes: &[Change],
        now: Millis,
    ) -> Result<Vec<std::result::Result<Job, Rejection>>> {
        let ids: Vec<Uuid> = changes.iter().map(|change| change.id).collect();
        self.bounded(async {
            let mut tx = self.begin().await?;
            let mut work = load(&mut tx, queries::LOCK_BY_ID, &ids).await?;
            let outcomes = changes.iter().map(|change| work.apply(change, now)).collect::<Result<_>>()?;
            save(&mut tx, &work).await?;
            tx.commit().await.map_err(failed)?;
            Ok(outcomes)
        })
        .await
    }

    async fn events(&self, id: Uuid, after: u64, limit: u32) -> Result<Vec<Recorded>> {
        self.bounded(async {
            let query = sqlx::query_as(queries::EVENTS).bind(id).bind(signed(after)).bind(i64::from(limit));
            let rows: Vec<EventRow> = query.fetch_all(&self.pool).await.map_err(failed)?;
            rows.into_iter().map(EventRow::decode).collect()
        })
        .await
    }

    async fn heads(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, u64)>> {
        self.bounded(async {
            let query = sqlx::query_as(queries::HEADS).bind(ids);
            let rows: Vec<(Uuid, i64)> = query.fetch_all(&self.pool).await.map_err(failed)?;
            Ok(rows.into_iter().map(|(id, sequence)| (id, sequence.unsigned_abs())).collect())
        })
        .await
    }

    async fn expired(&self, limit: u32, now: Millis) -> Result<Vec<ExpiredLease>> {
        self.bounded(async {
            let query = sqlx::query_as(queries::EXPIRED).bind(now).bind(i64::from(limit));
            let rows: Vec<(Uuid, i64, i64)> = query.fetch_all(&self.pool).await.map_err(failed)?;
            Ok(rows.into_iter().map(row::expired_lease).collect())
        })
        .await
    }

    async fn reserve_unpublished(&self, limit: u32, until: Millis, now: Millis) -> Result<Vec<Pending>> {
        self.bounded(async {
            let query =
                sqlx::query_as(queries::RESERVE_UNPUBLISHED).bind(now).bind(i64::from(limit)).bind(until);
            decode_pending(query.fetch_all(&self.pool).await.map_err(failed)?)
        })
        .await
    }

    async fn mark_published(&self, jobs: &[Pending], now: Millis) -> Result<()> {
        self.of_pending(queries::MARK_PUBLISHED, jobs, now).await
    }

    async fn return_unpublished(&self, jobs: &[Pending], from: Millis) -> Result<()> {
        self.of_pending(queries::RETURN_UNPUBLISHED, jobs, from).await
    }

    async fn unpublish(&self, queue: Queue, published_before: Millis) -> Result<u64> {
        self.bounded(async {
            let update = sqlx::query(queries::UNPUBLISH).bind(code(queue)).bind(published_before);
            Ok(update.execute(&self.pool).await.map_err(failed)?.rows_affected())
        })
        .await
    }

    async fn dead(&self, page: &DeadPage) -> Result<Vec<Job>> {
        let (ended_at, id) = page.after.unwrap_or((Millis::MAX, Uuid::max()));
        self.bounded(async {
            let query = sqlx::query_as(queries::DEAD)
                .bind(&page.owner)
                .bind(page.queue.map(code))
                .bind(ended_at)
                .bind(id)
                .bind(i64::from(page.limit));
            decode_jobs(query.fetch_all(&self.pool).await.map_err(failed)?)
        })
        .await
    }

    async fn depths(&self, now: Millis) -> Result<Vec<Depth>> {
        self.bounded(async {
            let query = sqlx::query_as(queries::DEPTHS).bind(now);
            let rows: Vec<DepthRow> = query.fetch_all(&self.pool).await.map_err(failed)?;
            Ok(row::decode_depths(&rows))
        })
        .await
    }

    async fn forget(&self, ended_before: Millis, log_before: Millis, limit: u32) -> Result<u64> {
        self.bounded(async {
            let mut tx = self.begin().await?;
            let mut removed = 0;
            for query in [queries::FORGET_EVENTS, queries::FORGET_JOBS] {
                let delete = sqlx::query(query).bind(ended_before).bind(i64::from(limit));
                removed += delete.execute(&mut *tx).await.map_err(failed)?.rows_affected();
            }
            let delete = sqlx::query(queries::FORGET_LOGS).bind(log_before);
            removed += delete.execute(&mut *tx).await.map_err(failed)?.rows_affected();
            tx.commit().await.map_err(failed)?;
            Ok(removed)
        })
        .await
    }

    async fn probe(&self) -> Result<Option<Millis>> {
        self.bounded(async {
            let now = sqlx::query_scalar(queries::NOW).fetch_one(&self.pool).await.map_err(failed)?;
            Ok(Some(now))
        })
        .await
    }
}

async fn insert_one(tx: &mut Transaction<'static, Postgres>, new: &NewJob, now: Millis) -> Result<Inserted> {
    let mut job = Job::begin(new, now);
    let effect = new
        .dead_on_arrival
        .as_ref()
        .map(|error| machine::bury_unborn(&mut job, error, now))
        .unwrap_or_default();
    let insert = sqlx::query(queries::INSERT)
        .bind(job.id)
        .bind(code(job.queue))
        .bind(&job.kind)
        .bind(&job.owner)
        .bind(&new.payload)
        .bind(&job.idempotency_key)
        .bind(i16::from(job.state as u8))
        .bind(i64::from(job.max_attempts))
        .bind(job.due_at)
        .bind(job.created_at)
        .bind(job.ended_at)
        .bind(row::encode_errors(&job)?)
        .bind(signed(job.last_sequence))
        .bind(&job.traceparent);
    if insert.execute(&mut **tx).await.map_err(failed)?.rows_affected() == 0 {
        return existing(tx, new).await;
    }
    let mut work = Work::default();
    work.write(&job, effect)?;
    save_events(tx, &work).await?;
    Ok(Inserted { job, existed: false })
}

async fn existing(tx: &mut Transaction<'static, Postgres>, new: &NewJob) -> Result<Inserted> {
    let query = sqlx::query_as(queries::EXISTING)
        .bind(new.id)
        .bind(&new.owner)
        .bind(code(new.queue))
        .bind(&new.idempotency_key);
    let row: JobRow = query.fetch_one(&mut **tx).await.map_err(failed)?;
    Ok(Inserted { job: row.decode()?, existed: true })
}

async fn load(tx: &mut Transaction<'static, Postgres>, query: &'static str, ids: &[Uuid]) -> Result<Work> {
    let rows: Vec<JobRow> = sqlx::query_as(query).bind(ids).fetch_all(&mut **tx).await.map_err(failed)?;
    Ok(Work::on(decode_jobs(rows)?))
}

async fn with_payloads(tx: &mut Transaction<'static, Postgres>, jobs: Vec<Job>) -> Result<Vec<Claimed>> {
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
    let query = sqlx::query_as(queries::PAYLOADS).bind(ids);
    let rows: Vec<(Uuid, Vec<u8>)> = query.fetch_all(&mut **tx).await.map_err(failed)?;
    let mut payloads: std::collections::HashMap<Uuid, Vec<u8>> = rows.into_iter().collect();
    let claimed = |job: Job| Claimed { payload: payloads.remove(&job.id).unwrap_or_default(), job };
    Ok(jobs.into_iter().map(claimed).collect())
}

async fn save(tx: &mut Transaction<'static, Postgres>, work: &Work) -> Result<()> {
    for job in work.changed() {
        sqlx::query(queries::UPDATE)
            .bind(job.id)
            .bind(i16::from(job.state as u8))
            .bind(i64::from(job.attempts))
            .bind(signed(job.epoch))
            .bind(job.lease_until)
            .bind(&job.worker)
            .bind(job.cancel_requested)
            .bind(job.due_at)
            .bind(job.published_at)
            .bind(job.ended_at)
            .bind(row::encode_errors(job)?)
            .bind(signed(job.last_sequence))
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
    }
    save_events(tx, work).await
}

async fn save_events(tx: &mut Transaction<'static, Postgres>, work: &Work) -> Result<()> {
    for (id, sequence, event) in &work.events {
        let insert = sqlx::query(queries::PUT_EVENT).bind(id).bind(signed(*sequence)).bind(event);
        insert.execute(&mut **tx).await.map_err(failed)?;
    }
    Ok(())
}

fn decode_jobs(rows: Vec<JobRow>) -> Result<Vec<Job>> {
    rows.into_iter().map(JobRow::decode).collect()
}

fn decode_pending(rows: Vec<PendingRow>) -> Result<Vec<Pending>> {
    rows.into_iter().map(PendingRow::decode).collect()
}

fn code(queue: Queue) -> i16 {
    i16::from(queue as u8)
}

/// What PostgreSQL's errors mean to a caller: a connection, a server that stops or recovers, and conflicts of
/// transactions pass; the rest are defects.
fn failed(error: sqlx::Error) -> Error {
    let transient = match &error {
        sqlx::Error::Database(database) => {
            let class = database.code().map(|code| code.chars().take(2).collect::<String>());
            matches!(class.as_deref(), Some("08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58"))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    };
    if transient { Error::unavailable(error) } else { Error::Store { source: error.into() } }
}
