//! Jobs in SQLite: one writer connection, a few readers, write-ahead log.

mod queries;
#[cfg(test)]
mod tests;

use std::{fs::File, path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
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

/// How long a writer waits for another process that writes the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers; SQLite gains nothing from many.
const READERS: u32 = 4;

/// Jobs in an SQLite file.
#[derive(Debug)]
pub struct SqliteJobs {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl SqliteJobs {
    /// Opens or creates the file, and brings its tables up to date under a file lock.
    ///
    /// # Errors
    /// When the file cannot be opened or is no job store.
    pub async fn open(path: &Path) -> Result<SqliteJobs> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit survives the process; what a power cut may take is in the README.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("temp_store", "memory")
            .pragma("cache_size", "-8000");
        // Neither the switch to WAL nor the migrations have a lock that waits: processes that start at once take turns.
        let _turn = lock_beside(path).await?;
        let writer = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let writer = writer.connect_with(options.clone()).await.map_err(failed)?;
        sqlx::migrate!("migrations/sqlite").run(&writer).await.map_err(Error::unavailable)?;
        let reader = SqlitePoolOptions::new().max_connections(READERS).min_connections(1);
        let reader = reader.connect_with(options.read_only(true)).await.map_err(failed)?;
        Ok(SqliteJobs { writer, reader })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }
}

/// Waits for the lock beside a file; it ends with the value.
async fn lock_beside(path: &Path) -> Result<File> {
    let lock_path = path.with_extension("lock");
    let lock = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
        let file = File::create(lock_path)?;
        file.lock()?;
        Ok(file)
    });
    lock.await.map_err(Error::unavailable)?.map_err(Error::unavailable)
}

#[async_trait]
impl Jobs for SqliteJobs {
    fn backend(&self) -> &'static str {
        "sqlite"
    }

    async fn insert(&self, jobs: &[NewJob], now: Millis) -> Result<Vec<Inserted>> {
        let mut tx = self.begin().await?;
        let mut inserted = Vec::with_capacity(jobs.len());
        for new in jobs {
            inserted.push(insert_one(&mut tx, new, now).await?);
        }
        tx.commit().await.map_err(failed)?;
        Ok(inserted)
    }

    async fn get(&self, ids: &[Uuid]) -> Result<Vec<Job>> {
        let rows: Vec<JobRow> = sqlx::query_as(queries::JOBS_BY_ID)
            .bind(id_list(ids))
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        rows.into_iter().map(JobRow::decode).collect()
    }

    async fn payload(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        sqlx::query_scalar(queries::PAYLOAD).bind(id).fetch_optional(&self.reader).await.map_err(failed)
    }

    async fn due(&self, queue: Queue, limit: u32, now: Millis) -> Result<Vec<Pending>> {
        let rows: Vec<PendingRow> = sqlx::query_as(queries::DUE)
            .bind(queue as u8)
            .bind(now)
            .bind(limit)
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        rows.into_iter().map(PendingRow::decode).collect()
    }

    async fn claim(
        &self,
        ids: &[Uuid],
        worker: &str,
        lease_until: Millis,
        now: Millis,
    ) -> Result<Vec<Claimed>> {
        let mut tx = self.begin().await?;
        let mut work = load(&mut tx, ids).await?;
        let command = Command::Claim { worker: worker.to_owned(), lease_until };
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            if let Ok(job) = work.apply(&Change::new(*id, command.clone()), now)? {
                let payload: Vec<u8> = sqlx::query_scalar(queries::PAYLOAD)
                    .bind(id)
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(failed)?;
                claimed.push(Claimed { job, payload });
            }
        }
        save(&mut tx, &work).await?;
        tx.commit().await.map_err(failed)?;
        Ok(claimed)
    }

    async fn apply(
        &self,
        changes: &[Change],
        now: Millis,
    ) -> Result<Vec<std::result::Result<Job, Rejection>>> {
        let ids: Vec<Uuid> = changes.iter().map(|change| change.id).collect();
        let mut tx = self.begin().await?;
        let mut work = load(&mut tx, &ids).await?;
        let outcomes = changes.iter().map(|change| work.apply(change, now)).collect::<Result<_>>()?;
        save(&mut tx, &work).await?;
        tx.commit().await.map_err(failed)?;
        Ok(outcomes)
    }

    async fn events(&self, id: Uuid, after: u64, limit: u32) -> Result<Vec<Recorded>> {
        let rows: Vec<EventRow> = sqlx::query_as(queries::EVENTS)
            .bind(id)
            .bind(signed(after))
            .bind(limit)
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        rows.into_iter().map(EventRow::decode).collect()
    }

    async fn heads(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, u64)>> {
        let rows: Vec<(Uuid, i64)> = sqlx::query_as(queries::HEADS)
            .bind(id_list(ids))
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        Ok(rows.into_iter().map(|(id, sequence)| (id, sequence.unsigned_abs())).collect())
    }

    async fn expired(&self, limit: u32, now: Millis) -> Result<Vec<ExpiredLease>> {
        let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(queries::EXPIRED)
            .bind(now)
            .bind(limit)
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        Ok(rows.into_iter().map(row::expired_lease).collect())
    }

    async fn reserve_unpublished(&self, limit: u32, until: Millis, now: Millis) -> Result<Vec<Pending>> {
        let rows: Vec<PendingRow> = sqlx::query_as(queries::RESERVE_UNPUBLISHED)
            .bind(now)
            .bind(limit)
            .bind(until)
            .fetch_all(&self.writer)
            .await
            .map_err(failed)?;
        rows.into_iter().map(PendingRow::decode).collect()
    }

    async fn mark_published(&self, jobs: &[Pending], now: Millis) -> Result<()> {
        let mut tx = self.begin().await?;
        for job in jobs {
            let mark = sqlx::query(queries::MARK_PUBLISHED).bind(now).bind(job.id).bind(signed(job.epoch));
            mark.execute(&mut *tx).await.map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    async fn return_unpublished(&self, jobs: &[Pending], from: Millis) -> Result<()> {
        let mut tx = self.begin().await?;
        for job in jobs {
            let give =
                sqlx::query(queries::RETURN_UNPUBLISHED).bind(from).bind(job.id).bind(signed(job.epoch));
            give.execute(&mut *tx).await.map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }

    async fn unpublish(&self, queue: Queue, published_before: Millis) -> Result<u64> {
        let update = sqlx::query(queries::UNPUBLISH).bind(queue as u8).bind(published_before);
        Ok(update.execute(&self.writer).await.map_err(failed)?.rows_affected())
    }

    async fn dead(&self, page: &DeadPage) -> Result<Vec<Job>> {
        let (ended_at, id) = page.after.unwrap_or((Millis::MAX, Uuid::max()));
        let rows: Vec<JobRow> = sqlx::query_as(queries::DEAD)
            .bind(&page.owner)
            .bind(page.queue.map(|queue| queue as u8))
            .bind(ended_at)
            .bind(id)
            .bind(page.limit)
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
        rows.into_iter().map(JobRow::decode).collect()
    }

    async fn depths(&self, now: Millis) -> Result<Vec<Depth>> {
        let rows: Vec<DepthRow> =
            sqlx::query_as(queries::DEPTHS).bind(now).fetch_all(&self.reader).await.map_err(failed)?;
        Ok(row::decode_depths(&rows))
    }

    async fn forget(&self, ended_before: Millis, log_before: Millis, limit: u32) -> Result<u64> {
        let mut tx = self.begin().await?;
        let mut removed = 0;
        for query in [queries::FORGET_EVENTS, queries::FORGET_JOBS] {
            let delete = sqlx::query(query).bind(ended_before).bind(limit);
            removed += delete.execute(&mut *tx).await.map_err(failed)?.rows_affected();
        }
        let delete = sqlx::query(queries::FORGET_LOGS).bind(log_before);
        removed += delete.execute(&mut *tx).await.map_err(failed)?.rows_affected();
        tx.commit().await.map_err(failed)?;
        Ok(removed)
    }

    async fn probe(&self) -> Result<Option<Millis>> {
        sqlx::query("SELECT 1").execute(&self.reader).await.map_err(failed)?;
        Ok(None)
    }
}

async fn insert_one(tx: &mut Transaction<'static, Sqlite>, new: &NewJob, now: Millis) -> Result<Inserted> {
    let mut job = Job::begin(new, now);
    let effect = new
        .dead_on_arrival
        .as_ref()
        .map(|error| machine::bury_unborn(&mut job, error, now))
        .unwrap_or_default();
    let insert = sqlx::query(queries::INSERT)
        .bind(job.id)
        .bind(job.queue as u8)
        .bind(&job.kind)
        .bind(&job.owner)
        .bind(&new.payload)
        .bind(&job.idempotency_key)
        .bind(job.state as u8)
        .bind(job.max_attempts)
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

async fn existing(tx: &mut Transaction<'static, Sqlite>, new: &NewJob) -> Result<Inserted> {
    let row: JobRow = sqlx::query_as(queries::EXISTING)
        .bind(new.id)
        .bind(&new.owner)
        .bind(new.queue as u8)
        .bind(&new.idempotency_key)
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(Inserted { job: row.decode()?, existed: true })
}

async fn load(tx: &mut Transaction<'static, Sqlite>, ids: &[Uuid]) -> Result<Work> {
    let rows: Vec<JobRow> =
        sqlx::query_as(queries::JOBS_BY_ID).bind(id_list(ids)).fetch_all(&mut **tx).await.map_err(failed)?;
    Ok(Work::on(rows.into_iter().map(JobRow::decode).collect::<Result<Vec<Job>>>()?))
}

async fn save(tx: &mut Transaction<'static, Sqlite>, work: &Work) -> Result<()> {
    for job in work.changed() {
        sqlx::query(queries::UPDATE)
            .bind(job.id)
            .bind(job.state as u8)
            .bind(job.attempts)
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

async fn save_events(tx: &mut Transaction<'static, Sqlite>, work: &Work) -> Result<()> {
    for (id, sequence, event) in &work.events {
        let insert = sqlx::query(queries::PUT_EVENT).bind(id).bind(signed(*sequence)).bind(event);
        insert.execute(&mut **tx).await.map_err(failed)?;
    }
    Ok(())
}

/// Ids as SQLite takes a list of them: a JSON array of hex strings.
fn id_list(ids: &[Uuid]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{}\"", id.simple())).collect();
    format!("[{}]", quoted.join(","))
}

/// What SQLite's errors mean to a caller: a file that is busy, full or gone may be back, the rest are defects.
fn failed(error: sqlx::Error) -> Error {
    let transient = match &error {
        sqlx::Error::Database(database) => {
            // The primary code is the low byte: BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN.
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff;
            matches!(code, 5..=10 | 13 | 14)
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    };
    if transient { Error::unavailable(error) } else { Error::Store { source: error.into() } }
}
