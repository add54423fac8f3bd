//! Chunks: stored by an upload, searchable as soon as the document's generation is the upload's.

use super::{Committed, Query, Repository, Transaction, Upload, Which, outbox::Entity};
use crate::{
    entities::{Chunk, Document, DocumentState},
    error::Error,
    params,
};

/// What a worker is about to upload chunks to.
#[derive(Clone, Debug)]
pub enum Begun {
    /// The chunks are wanted.
    Wanted(Upload),
    /// They are there already.
    Ready(Document),
}

impl Transaction<'_> {
    /// Refuses embeddings of another dimension than the database has; the first ones decide it.
    async fn check_dimension(&mut self, chunks: &[Chunk]) -> Result<(), Error> {
        let Some(first) = chunks.first() else { return Ok(()) };
        let dimension = first.embedding.len();
        let differs = chunks.iter().position(|chunk| chunk.embedding.len() != dimension);
        if let Some(index) = differs {
            return Err(dimension_error(chunks[index].ordinal, chunks[index].embedding.len(), dimension));
        }
        let mut stored = self.one(Query::EmbeddingDimension, params![]).await?;
        if stored.is_none() {
            self.execute(Query::EmbeddingDimensionClaim, params![dimension]).await?;
            stored = self.one(Query::EmbeddingDimension, params![]).await?;
        }
        let stored: usize = match stored {
            Some(row) => row.small("value")?,
            None => return Err(Error::internal("the embedding dimension vanished")),
        };
        if stored == dimension {
            return Ok(());
        }
        if self.one(Query::ChunkAny, params![]).await?.is_some() {
            return Err(dimension_error(first.ordinal, dimension, stored));
        }
        // No chunk is left of the old dimension: another embedder may begin.
        self.execute(Query::EmbeddingDimensionSet, params![dimension]).await.map(drop)
    }

    async fn complete(
        &mut self,
        upload: &Upload,
        version: u64,
        count: u32,
        rest: Vec<Chunk>,
    ) -> Result<Document, Error> {
        let document = self.lock_document(&upload.document_id).await?;
        document.fence(version)?;
        if document.state == DocumentState::Ready {
            self.session().drop_chunks(&upload.document_id, Which::Of(upload.generation)).await?;
            return Ok(document);
        }
        let staged = usize::try_from(count).unwrap_or(usize::MAX) > rest.len();
        self.check_dimension(&rest).await?;
        // Before the new ones come: a deletion makes SQLite write out the word index as it stands.
        self.session().drop_chunks(&upload.document_id, Which::ExceptOf(upload.generation)).await?;
        self.session().store_chunks(upload, rest).await?;
        if staged {
            let row = self.one(Query::ChunkCount, params![&upload.document_id, upload.generation]).await?;
            let stored: u32 = row.map_or(Ok(0), |row| row.small("chunks"))?;
            if stored != count {
                return Err(Error::internal(format!("{stored} of {count} chunks are stored")));
            }
        }
        let values = params![&upload.document_id, count, upload.generation, self.now];
        let row = self.one(Query::DocumentComplete, values).await?;
        let ready = row.as_ref().map(Document::read).transpose()?;
        let ready = ready.ok_or_else(|| Error::internal("a locked document vanished"))?;
        self.owe_invalidation(Entity::Document, &ready.id);
        self.owe_notification(&ready, "document.ready", format!("{} is ready", ready.path));
        Ok(ready)
    }
}

impl Repository {
    /// Asks whether a version's chunks are wanted.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Superseded`], or when the database fails.
    pub async fn begin_upload(&self, owner: &str, document_id: &str, version: u64) -> Result<Begun, Error> {
        let document = self.document(document_id).await?.filter(|document| document.owner == owner);
        let document = document.ok_or_else(|| Error::not_found("document", document_id))?;
        document.fence(version)?;
        if document.state == DocumentState::Ready {
            return Ok(Begun::Ready(document));
        }
        Ok(Begun::Wanted(Upload {
            owner: document.owner,
            document_id: document.id,
            path: document.path,
            generation: fastrand::i64(1..),
        }))
    }

    /// Stores some chunks ahead of the completion, unseen by searches.
    ///
    /// # Errors
    /// When an embedding's dimension is not the database's, the document is gone, or the database fails.
    pub async fn stage_chunks(&self, upload: &Upload, chunks: Vec<Chunk>) -> Result<(), Error> {
        let (owner, upload) = (upload.owner.clone(), upload.clone());
        let staged = self.write(&owner, move |work| {
            Box::pin(async move {
                work.lock_document(&upload.document_id).await?;
                work.check_dimension(&chunks).await?;
                work.session().store_chunks(&upload, chunks).await
            })
        });
        staged.await.map(drop)
    }

    /// Makes a version ready: stores the rest of its chunks, drops all others, and owes the owner a notification.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Superseded`], or when the database fails. Nothing is changed then.
    pub async fn complete_document(
        &self,
        upload: &Upload,
        version: u64,
        count: u32,
        rest: Vec<Chunk>,
    ) -> Result<Committed<Document>, Error> {
        let (owner, upload) = (upload.owner.clone(), upload.clone());
        let completed = self.write(&owner, move |work| {
            Box::pin(async move { work.complete(&upload, version, count, rest).await })
        });
        completed.await
    }

    /// Drops what an upload that broke off has staged.
    ///
    /// # Errors
    /// When the database fails; the next completion of the document drops it then.
    pub async fn discard_upload(&self, upload: &Upload) -> Result<(), Error> {
        let (owner, upload) = (upload.owner.clone(), upload.clone());
        let discarded = self.write(&owner, move |work| {
            Box::pin(async move {
                work.session().drop_chunks(&upload.document_id, Which::Of(upload.generation)).await
            })
        });
        discarded.await.map(drop)
    }

    /// The dimension of all embeddings; `None` before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn embedding_dimension(&self) -> Result<Option<usize>, Error> {
        let row = self.read_one(Query::EmbeddingDimension, params![]).await?;
        row.map(|row| row.small("value")).transpose()
    }
}

fn dimension_error(ordinal: u32, has: usize, wants: usize) -> Error {
    Error::invalid(
        format!("chunks[{ordinal}].embedding"),
        format!("has dimension {has}, this database has {wants}"),
    )
}
