//! Candidates of a search, and the passages behind them.

use super::{Query, Repository};
use crate::{entities::Hit, error::Error, params};

/// A chunk as one way of searching ranks it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The chunk.
    pub chunk_id: i64,
    /// Larger is better; comparable within one search only.
    pub score: f32,
}

impl Repository {
    /// The owner's chunks that hold any of some words, best first. Words are lower-case letters and digits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn match_chunks(
        &self,
        owner: &str,
        words: &[String],
        limit: usize,
    ) -> Result<Vec<Ranked>, Error> {
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let mut session = self.engine.reader().await?;
        let any = session.any_of(words);
        let rows = session.rows(Query::ChunkMatch, vec![owner.into(), any, limit.into()]).await?;
        let ranked = rows.iter().map(|row| {
            #[allow(clippy::cast_possible_truncation)] // a score needs no more precision
            Ok(Ranked { chunk_id: row.int("id")?, score: row.float("score")? as f32 })
        });
        ranked.collect()
    }

    /// The owner's chunks nearest to an embedding, nearest first.
    ///
    /// # Errors
    /// When the embedding's dimension is not the database's, or the database fails.
    pub async fn nearest_chunks(
        &self,
        owner: &str,
        embedding: &[f32],
        limit: usize,
    ) -> Result<Vec<Ranked>, Error> {
        match self.embedding_dimension().await? {
            None => return Ok(Vec::new()),
            Some(dimension) if dimension != embedding.len() => {
                let text = format!("has dimension {}, this database has {dimension}", embedding.len());
                return Err(Error::invalid("embedding", text));
            }
            Some(_) => {}
        }
        self.engine.reader().await?.nearest(owner, embedding, limit).await
    }

    /// The passages of ranked chunks, in their order. Chunks that have gone in the meantime are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn passages(&self, owner: &str, ranked: &[Ranked]) -> Result<Vec<Hit>, Error> {
        if ranked.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = ranked.iter().map(|ranked| ranked.chunk_id).collect();
        let mut found = std::collections::HashMap::new();
        for row in self.read(Query::ChunkFetch, params![ids, owner]).await? {
            let hit = Hit {
                document_id: row.text("document_id")?,
                path: row.text("path")?,
                ordinal: row.small("ordinal")?,
                heading: row.text("heading")?,
                text: row.text("text")?,
                score: 0.0,
            };
            found.insert(row.int("id")?, hit);
        }
        let hits = ranked.iter().filter_map(|ranked| {
            let hit = found.remove(&ranked.chunk_id)?;
            Some(Hit { score: ranked.score, ..hit })
        });
        Ok(hits.collect())
    }
}
