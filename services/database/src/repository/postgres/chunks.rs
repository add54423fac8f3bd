//! Chunks on PostgreSQL: a row each, with its words and its embedding.

use super::session::PostgresSession;
use crate::{
    entities::Chunk,
    error::Error,
    params,
    repository::{Query, Session, Upload},
};

/// What separates words, as SQLite's tokenizer has it: the parser here would keep paths and host names in one piece.
const SEPARATORS: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u{a0}«»·–—‘’“”•…→";

pub(super) async fn store(
    session: &mut PostgresSession,
    upload: &Upload,
    chunks: Vec<Chunk>,
) -> Result<(), Error> {
    let Some(first) = chunks.first().map(|chunk| chunk.ordinal) else { return Ok(()) };
    let (mut headings, mut texts, mut embeddings) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        headings.push(chunk.heading);
        texts.push(chunk.text);
        embeddings.push(chunk.embedding);
    }
    let values = params![
        &upload.owner,
        &upload.document_id,
        upload.generation,
        first,
        headings,
        texts,
        SEPARATORS,
        embeddings,
        &upload.path,
    ];
    session.execute(Query::ChunkInsert, values).await.map(drop)
}
