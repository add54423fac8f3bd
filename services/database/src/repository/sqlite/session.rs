//! A connection in use: binding, running, reading.

use std::{ops::DerefMut, sync::Arc, time::Duration};

use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use sqlx::{
    Arguments, Executor, Sqlite, SqliteConnection, pool::PoolConnection, sqlite::SqliteArguments,
    sqlite::SqliteRow,
};
use weft_mesh::context;

use super::{failed, vector};
use crate::{
    entities::Chunk,
    error::Error,
    insight::Observer,
    repository::{Dialect, Param, Query, Ranked, Row, Session, Upload, Which, wait::caller_is_gone},
};

/// How long a query of a session may take.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// As long as the caller waits, at most this long.
    Caller(Duration),
    /// As long as it needs: it is part of a group, which others wait for too.
    Group,
}

pub(super) struct SqliteSession<C> {
    connection: C,
    observer: Arc<Observer>,
    patience: Patience,
}

impl SqliteSession<PoolConnection<Sqlite>> {
    pub(super) fn reading(
        connection: PoolConnection<Sqlite>,
        observer: &Arc<Observer>,
        statement_timeout: Duration,
    ) -> Self {
        Self { connection, observer: Arc::clone(observer), patience: Patience::Caller(statement_timeout) }
    }
}

impl<'c> SqliteSession<&'c mut SqliteConnection> {
    pub(super) fn writing(connection: &'c mut SqliteConnection, observer: &Arc<Observer>) -> Self {
        Self { connection, observer: Arc::clone(observer), patience: Patience::Group }
    }
}

impl<C> SqliteSession<C>
where
    C: DerefMut<Target = SqliteConnection> + Send,
{
    /// Hands over row by row: what a row holds is in memory no longer than its visit takes.
    pub(super) async fn each(
        &mut self,
        query: Query,
        params: Vec<Param>,
        mut visit: impl FnMut(&SqliteRow) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let (patience, observer) = (self.patience, Arc::clone(&self.observer));
        let connection = &mut *self.connection;
        let run = patience.limit(async {
            let mut rows = connection.fetch(prepared(query, params)?);
            let mut count = 0;
            while let Some(row) = rows.try_next().await.map_err(|error| failed(query.name(), error))? {
                count += 1;
                visit(&row)?;
            }
            Ok(count)
        });
        observer.watch(query, |count| *count, run).await.map(drop)
    }
}

impl<C> Session for SqliteSession<C>
where
    C: DerefMut<Target = SqliteConnection> + Send,
{
    fn rows<'a>(&'a mut self, query: Query, params: Vec<Param>) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
        let (patience, observer) = (self.patience, Arc::clone(&self.observer));
        async move {
            let connection = &mut *self.connection;
            let run = patience.limit(async {
                let rows = connection.fetch_all(prepared(query, params)?).await;
                Ok(rows.map_err(|error| failed(query.name(), error))?.into_iter().map(Row::Sqlite).collect())
            });
            observer.watch(query, |rows: &Vec<Row>| rows.len() as u64, run).await
        }
        .boxed()
    }

    fn execute<'a>(&'a mut self, query: Query, params: Vec<Param>) -> BoxFuture<'a, Result<u64, Error>> {
        let (patience, observer) = (self.patience, Arc::clone(&self.observer));
        async move {
            let connection = &mut *self.connection;
            let run = patience.limit(async {
                let done = connection.execute(prepared(query, params)?).await;
                Ok(done.map_err(|error| failed(query.name(), error))?.rows_affected())
            });
            observer.watch(query, |changed| *changed, run).await
        }
        .boxed()
    }

    fn store_chunks<'a>(
        &'a mut self,
        upload: &'a Upload,
        chunks: Vec<Chunk>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        super::chunks::store(self, upload, chunks).boxed()
    }

    fn drop_chunks<'a>(&'a mut self, document_id: &'a str, which: Which) -> BoxFuture<'a, Result<(), Error>> {
        super::chunks::discard(self, document_id, which).boxed()
    }

    fn nearest<'a>(
        &'a mut self,
        owner: &'a str,
        embedding: &'a [f32],
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Ranked>, Error>> {
        vector::nearest(self, owner, embedding, limit).boxed()
    }

    fn any_of(&self, words: &[String]) -> Param {
        let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        Param::Text(quoted.join(" OR "))
    }
}

impl Patience {
    async fn limit<T>(self, run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Self::Caller(statement_timeout) = self else { return run.await };
        let timeout = context::remaining(statement_timeout);
        tokio::time::timeout(timeout, run).await.unwrap_or_else(|_| {
            if caller_is_gone() {
                return Err(Error::DeadlineExceeded);
            }
            Err(Error::Unavailable { server: "sqlite", reason: "the statement timeout is over".to_owned() })
        })
    }
}

fn prepared(
    query: Query,
    params: Vec<Param>,
) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, Error> {
    let sql = query.sql(Dialect::Sqlite);
    let sql = sql.ok_or_else(|| Error::internal(format!("query {} is not sqlite's", query.name())))?;
    let mut arguments = SqliteArguments::default();
    for param in params {
        bind(&mut arguments, param)
            .map_err(|source| Error::caused(format!("cannot bind {}", query.name()), source))?;
    }
    Ok(sqlx::query_with(sql, arguments))
}

fn bind(arguments: &mut SqliteArguments, param: Param) -> Result<(), sqlx::error::BoxDynError> {
    match param {
        Param::Int(value) => arguments.add(value),
        Param::Text(value) => arguments.add(value),
        Param::Optional(value) => arguments.add(value),
        Param::Bytes(value) => arguments.add(value),
        Param::Texts(values) => arguments.add(serde_json::to_string(&values)?),
        Param::Ints(values) => arguments.add(serde_json::to_string(&values)?),
        Param::Vector(value) => arguments.add(vector::bytes(std::slice::from_ref(&value))),
        Param::Vectors(values) => arguments.add(vector::bytes(&values)),
    }
}
