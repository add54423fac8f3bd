//! Chunks on SQLite: rows, a word index, and embeddings in blobs of up to 64.

use std::ops::DerefMut;

use serde::Serialize;
use sqlx::SqliteConnection;

use super::SqliteSession;
use crate::{
    entities::Chunk,
    error::Error,
    params,
    repository::{Query, Session, Upload, Which},
};

/// Embeddings in one blob: few rows to scan, and at most 1 MiB each.
const SEGMENT: usize = 64;

#[derive(Serialize)]
struct Words<'a> {
    h: &'a str,
    t: &'a str,
}

pub(super) async fn store<C>(
    session: &mut SqliteSession<C>,
    upload: &Upload,
    chunks: Vec<Chunk>,
) -> Result<(), Error>
where
    C: DerefMut<Target = SqliteConnection> + Send,
{
    let Some(first) = chunks.first() else { return Ok(()) };
    let rows = session.rows(Query::ChunkLastId, params![]).await?;
    let last: i64 = rows.first().map_or(Ok(0), |row| row.int("last"))?;
    let words: Vec<_> = chunks.iter().map(|chunk| Words { h: &chunk.heading, t: &chunk.text }).collect();
    let words =
        serde_json::to_string(&words).map_err(|source| Error::caused("cannot write chunks", source))?;
    let (document, generation) = (&upload.document_id, upload.generation);
    session
        .execute(Query::ChunkInsert, params![last + 1, document, generation, first.ordinal, words.clone()])
        .await?;
    session.execute(Query::ChunkIndexInsert, params![last + 1, &upload.path, words]).await?;
    let mut first_id = last + 1;
    let mut embeddings = chunks.into_iter().map(|chunk| chunk.embedding);
    loop {
        let segment: Vec<_> = embeddings.by_ref().take(SEGMENT).collect();
        let Ok(count) = i64::try_from(segment.len()) else { break };
        if count == 0 {
            break;
        }
        let values = params![&upload.owner, document, generation, first_id, segment];
        session.execute(Query::ChunkVectorInsert, values).await?;
        first_id += count;
    }
    Ok(())
}

pub(super) async fn discard<C>(
    session: &mut SqliteSession<C>,
    document_id: &str,
    which: Which,
) -> Result<(), Error>
where
    C: DerefMut<Target = SqliteConnection> + Send,
{
    let (queries, generation) = match which {
        Which::Of(generation) => ([Query::ChunkDiscard, Query::ChunkVectorDiscard], generation),
        Which::ExceptOf(generation) => ([Query::ChunkRetain, Query::ChunkVectorRetain], generation),
    };
    for query in queries {
        session.execute(query, params![document_id, generation]).await?;
    }
    Ok(())
}
