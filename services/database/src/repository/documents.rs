//! Documents: (owner, path), versioned by their bytes, with the chunks of the newest version that is ready.

use prost::Message as _;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};
use weft_proto::queue::v1::{DeliverNotification, IngestDocument};

use super::{
    Committed, Query, Repository, Row, Transaction,
    outbox::{Effect, Entity, Urgency},
};
use crate::{
    entities::{Document, DocumentState},
    error::Error,
    page::{Page, PageRequest, Position},
    params,
};

/// Bytes at a path.
#[derive(Clone, Debug)]
pub struct NewDocument {
    /// As given by the owner.
    pub path: String,
    /// The asset that holds the bytes.
    pub asset_id: String,
    /// Media type.
    pub content_type: String,
    /// Size of the bytes.
    pub size_bytes: u64,
}

/// A document as it was put.
#[derive(Clone, Debug)]
pub struct Put {
    /// As stored.
    pub document: Document,
    /// Whether anything changed.
    pub changed: bool,
}

impl Document {
    pub(super) fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.text("id")?,
            owner: row.text("owner")?,
            path: row.text("path")?,
            content_type: row.text("content_type")?,
            size_bytes: row.small("size_bytes")?,
            asset_id: row.text("asset_id")?,
            version: row.small("version")?,
            state: match row.int("state")? {
                1 => DocumentState::Pending,
                2 => DocumentState::Ready,
                3 => DocumentState::Failed,
                state => return Err(Error::internal(format!("document is in state {state}"))),
            },
            chunk_count: row.small("chunk_count")?,
            generation: row.int("generation")?,
            job_id: row.text("job_id")?,
            created_at: row.micros("created_at")?,
            updated_at: row.micros("updated_at")?,
            reason: row.text("reason")?,
        })
    }

    /// Refuses a result for another version than the document has.
    pub(super) fn fence(&self, version: u64) -> Result<(), Error> {
        if self.version > version {
            return Err(Error::Superseded { id: self.id.clone(), version, current: self.version });
        }
        if self.version < version {
            return Err(Error::invalid("version", format!("the document has version {} only", self.version)));
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// The owner's document, locked until the transaction ends.
    pub(super) async fn lock_document(&mut self, id: &str) -> Result<Document, Error> {
        let row = self.one(Query::DocumentLock, params![id]).await?;
        let document = row.as_ref().map(Document::read).transpose()?;
        document
            .filter(|document| document.owner == self.owner)
            .ok_or_else(|| Error::not_found("document", id))
    }

    async fn lock_path(&mut self, path: &str) -> Result<Option<Document>, Error> {
        let owner = self.owner.clone();
        let row = self.one(Query::DocumentLockByPath, params![owner, path]).await?;
        row.as_ref().map(Document::read).transpose()
    }

    async fn put(&mut self, new: NewDocument) -> Result<Put, Error> {
        self.ensure_user().await?;
        let mut known = self.lock_path(&new.path).await?;
        if known.is_none() {
            if let Some(document) = self.insert(&new).await? {
                return Ok(Put { document, changed: true });
            }
            // Another caller put the same path at this very moment.
            known = self.lock_path(&new.path).await?;
        }
        let document = known.ok_or_else(|| Error::internal("a new document conflicts with none"))?;
        if document.asset_id == new.asset_id && document.state != DocumentState::Failed {
            return Ok(Put { document, changed: false });
        }
        let document = self.renew(document, new).await?;
        Ok(Put { document, changed: true })
    }

    async fn insert(&mut self, new: &NewDocument) -> Result<Option<Document>, Error> {
        let document = Document {
            id: Uuid::now_v7().to_string(),
            owner: self.owner.clone(),
            path: new.path.clone(),
            content_type: new.content_type.clone(),
            size_bytes: new.size_bytes,
            asset_id: new.asset_id.clone(),
            version: 1,
            state: DocumentState::Pending,
            chunk_count: 0,
            generation: 0,
            job_id: Uuid::now_v7().to_string(),
            created_at: self.now,
            updated_at: self.now,
            reason: String::new(),
        };
        let values = params![
            &document.id,
            &document.owner,
            &document.path,
            &document.content_type,
            document.size_bytes,
            &document.asset_id,
            &document.job_id,
            self.now,
        ];
        if self.execute(Query::DocumentInsert, values).await? == 0 {
            return Ok(None);
        }
        self.owe_ingestion(&document);
        Ok(Some(document))
    }

    /// Other bytes make the next version; the same ones, whose ingestion failed, another try.
    async fn renew(&mut self, document: Document, new: NewDocument) -> Result<Document, Error> {
        let version = if document.asset_id == new.asset_id { document.version } else { document.version + 1 };
        let job_id = Uuid::now_v7().to_string();
        let values =
            params![&document.id, new.content_type, new.size_bytes, new.asset_id, version, job_id, self.now];
        let row = self.one(Query::DocumentRenew, values).await?;
        let renewed = row.as_ref().map(Document::read).transpose()?;
        let renewed = renewed.ok_or_else(|| Error::internal("a locked document vanished"))?;
        self.owe_ingestion(&renewed);
        Ok(renewed)
    }

    async fn fail(&mut self, id: &str, version: u64, reason: String) -> Result<Document, Error> {
        let document = self.lock_document(id).await?;
        document.fence(version)?;
        // What is searchable stays so, whatever a late worker says; a repeated report changes nothing.
        if document.state != DocumentState::Pending {
            return Ok(document);
        }
        let row = self.one(Query::DocumentFail, params![id, reason, self.now]).await?;
        let failed = row.as_ref().map(Document::read).transpose()?;
        let failed = failed.ok_or_else(|| Error::internal("a locked document vanished"))?;
        self.owe_invalidation(Entity::Document, id);
        let text = format!("{} could not be ingested: {}", failed.path, failed.reason);
        self.owe_notification(&failed, "document.failed", text);
        Ok(failed)
    }

    fn owe_ingestion(&mut self, document: &Document) {
        self.owe_invalidation(Entity::Document, &document.id);
        let payload = IngestDocument { document_id: document.id.clone(), version: document.version };
        self.owe(Effect::Publish {
            queue: "document_queue".to_owned(),
            r#type: "weft.queue.v1.IngestDocument".to_owned(),
            payload: payload.encode_to_vec(),
            job_id: document.job_id.clone(),
            urgency: Urgency::Awaited,
        });
    }

    /// The owner is told of what became of a document: once for each job, whoever reports it how often.
    pub(super) fn owe_notification(&mut self, document: &Document, kind: &str, text: String) {
        let payload = DeliverNotification { kind: kind.to_owned(), text, subject_id: document.id.clone() };
        self.owe(Effect::Publish {
            queue: "notification_queue".to_owned(),
            r#type: "weft.queue.v1.DeliverNotification".to_owned(),
            payload: payload.encode_to_vec(),
            job_id: derived_id(&document.job_id, kind),
            urgency: Urgency::Relayed,
        });
    }
}

impl Repository {
    /// Registers bytes at a path, and owes the job that ingests them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_document(&self, owner: &str, new: NewDocument) -> Result<Committed<Put>, Error> {
        self.write(owner, move |work| Box::pin(work.put(new))).await
    }

    /// One document, whoever owns it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn document(&self, id: &str) -> Result<Option<Document>, Error> {
        self.read_one(Query::DocumentGet, params![id]).await?.as_ref().map(Document::read).transpose()
    }

    /// The owner's documents of these ids, in any order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn documents_by_id(&self, owner: &str, ids: &[String]) -> Result<Vec<Document>, Error> {
        self.read(Query::DocumentBatchGet, params![ids, owner]).await?.iter().map(Document::read).collect()
    }

    /// The owner's documents by path, all or those in one state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_documents(
        &self,
        owner: &str,
        state: Option<DocumentState>,
        page: &PageRequest,
    ) -> Result<Page<Document>, Error> {
        let mut values = params![owner, &page.after.text, page.size + 1];
        let query = match state {
            None => Query::DocumentList,
            Some(state) => {
                values.push(state.code().into());
                Query::DocumentListInState
            }
        };
        let rows = self.read(query, values).await?;
        let documents = rows.iter().map(Document::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(documents, page.size, |one| Position { number: 0, text: one.path.clone() }))
    }

    /// Deletes a document with its chunks. There need not be one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_document(&self, owner: &str, id: String) -> Result<Committed<()>, Error> {
        let deleted = self.write(owner, move |work| {
            Box::pin(async move {
                if work.execute(Query::DocumentDelete, params![&id, &work.owner]).await? > 0 {
                    work.owe_invalidation(Entity::Document, &id);
                }
                Ok(())
            })
        });
        deleted.await
    }

    /// Makes a pending document failed with a reason, and owes its owner a notification.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Superseded`], or when the database fails.
    pub async fn fail_document(
        &self,
        owner: &str,
        id: String,
        version: u64,
        reason: String,
    ) -> Result<Committed<Document>, Error> {
        let failed =
            self.write(owner, move |work| Box::pin(async move { work.fail(&id, version, reason).await }));
        failed.await
    }
}

/// The id of the job that follows from another one: the same each time (a UUID of version 8).
fn derived_id(job_id: &str, kind: &str) -> String {
    let digest = Sha256::new().chain_update(job_id).chain_update("/").chain_update(kind).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
