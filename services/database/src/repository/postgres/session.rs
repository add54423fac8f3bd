//! A connection in use: binding, running, reading.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use pgvector::Vector;
use sqlx::{Arguments, Executor, Postgres, postgres::PgArguments};

use super::held::Held;
use crate::{
    entities::Chunk,
    error::Error,
    insight::Observer,
    params,
    repository::{Dialect, Param, Query, Ranked, Row, Session, Upload, Which},
};

pub(super) struct PostgresSession {
    held: Held,
    observer: Arc<Observer>,
    statement_timeout: Duration,
}

impl PostgresSession {
    pub(super) const fn new(held: Held, observer: Arc<Observer>, statement_timeout: Duration) -> Self {
        Self { held, observer, statement_timeout }
    }

    pub(super) fn into_held(self) -> Held {
        self.held
    }
}

impl Session for PostgresSession {
    fn rows<'a>(&'a mut self, query: Query, params: Vec<Param>) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
        async move {
            let (prepared, supervisor) = (prepared(query, params)?, self.held.supervisor());
            let run = self.held.run(|connection| connection.fetch_all(prepared).boxed(), query.name());
            let rows = async { Ok(run.await?.into_iter().map(Row::Postgres).collect()) };
            let timed = supervisor.within(self.statement_timeout, rows);
            self.observer.watch(query, |rows: &Vec<Row>| rows.len() as u64, timed).await
        }
        .boxed()
    }

    fn execute<'a>(&'a mut self, query: Query, params: Vec<Param>) -> BoxFuture<'a, Result<u64, Error>> {
        async move {
            let (prepared, supervisor) = (prepared(query, params)?, self.held.supervisor());
            let run = self.held.run(|connection| connection.execute(prepared).boxed(), query.name());
            let changed = async { Ok(run.await?.rows_affected()) };
            let timed = supervisor.within(self.statement_timeout, changed);
            self.observer.watch(query, |changed| *changed, timed).await
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
        async move {
            let (query, generation) = match which {
                Which::Of(generation) => (Query::ChunkDiscard, generation),
                Which::ExceptOf(generation) => (Query::ChunkRetain, generation),
            };
            self.execute(query, params![document_id, generation]).await.map(drop)
        }
        .boxed()
    }

    fn nearest<'a>(
        &'a mut self,
        owner: &'a str,
        embedding: &'a [f32],
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Ranked>, Error>> {
        async move {
            let rows = self.rows(Query::ChunkNearest, params![owner, embedding, limit]).await?;
            let ranked = rows.iter().map(|row| {
                #[allow(clippy::cast_possible_truncation)] // a score needs no more precision
                Ok(Ranked { chunk_id: row.int("id")?, score: row.float("score")? as f32 })
            });
            ranked.collect()
        }
        .boxed()
    }

    fn any_of(&self, words: &[String]) -> Param {
        Param::Texts(words.to_vec())
    }
}

fn prepared(
    query: Query,
    params: Vec<Param>,
) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, Error> {
    let sql = query.sql(Dialect::Postgres);
    let sql = sql.ok_or_else(|| Error::internal(format!("query {} is not postgres's", query.name())))?;
    let mut arguments = PgArguments::default();
    for param in params {
        bind(&mut arguments, param)
            .map_err(|source| Error::caused(format!("cannot bind {}", query.name()), source))?;
    }
    Ok(sqlx::query_with(sql, arguments))
}

fn bind(arguments: &mut PgArguments, param: Param) -> Result<(), sqlx::error::BoxDynError> {
    match param {
        Param::Int(value) => arguments.add(value),
        Param::Text(value) => arguments.add(value),
        Param::Optional(value) => arguments.add(value),
        Param::Bytes(value) => arguments.add(value),
        Param::Texts(values) => arguments.add(values),
        Param::Ints(values) => arguments.add(values),
        Param::Vector(value) => arguments.add(Vector::from(value)),
        Param::Vectors(values) => arguments.add(values.into_iter().map(Vector::from).collect::<Vec<_>>()),
    }
}
