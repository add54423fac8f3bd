//! The client stream of CompleteDocument: small documents are gathered in memory and stored in one transaction; of
//! large ones, what has come is stored ahead, unseen by searches. No connection is held while the client sends.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Streaming;
use weft_mesh::error::CallError;
use weft_proto::database::v1::{
    self as pb, CompleteDocumentHeader, CompleteDocumentRequest, complete_document_request::Part,
};

use super::{Core, caller};
use crate::{
    entities::{Chunk, Document},
    error::Error,
    repository::{Begun, Upload},
    validate::{self, Checks},
};

/// Chunks of a document at most.
const CHUNKS: u32 = 100_000;
/// Bytes of text in a chunk at most.
const TEXT: usize = 16 * 1024;
/// Bytes of chunks in one message at most.
const MESSAGE: usize = 1024 * 1024;
/// Bytes gathered in memory at most.
const GATHERED: usize = 1024 * 1024;

/// Receives the chunks of a document and makes it ready.
pub(super) async fn receive(
    core: &Arc<Core>,
    mut stream: Streaming<CompleteDocumentRequest>,
) -> Result<Document, Error> {
    let header = match next(&mut stream).await? {
        Some(Part::Header(header)) => header,
        _ => return Err(Error::invalid("header", "must come first")),
    };
    let text = format!("must be 0 to {CHUNKS}, is {}", header.chunk_count);
    Checks::new()
        .id("header.document_id", &header.document_id, 128)
        .require(header.chunk_count <= CHUNKS, "header.chunk_count", text)
        .finish()?;
    let upload = match core.repository.begin_upload(&caller(), &header.document_id, header.version).await? {
        Begun::Wanted(upload) => upload,
        Begun::Ready(document) => return Ok(document),
    };
    let mut receiving = Receiving::new(Arc::clone(core), header, upload);
    while let Some(part) = next(&mut stream).await? {
        let Part::Chunks(batch) = part else { return Err(Error::invalid("header", "must come once")) };
        receiving.take(batch).await?;
    }
    receiving.complete().await
}

async fn next(stream: &mut Streaming<CompleteDocumentRequest>) -> Result<Option<Part>, Error> {
    let message = stream.message().await.map_err(|status| Error::BrokenStream(CallError::from(status)))?;
    match message {
        None => Ok(None),
        Some(CompleteDocumentRequest { part: Some(part) }) => Ok(Some(part)),
        Some(CompleteDocumentRequest { part: None }) => Err(Error::invalid("part", "must be set")),
    }
}

/// A document on its way. Dropping it before it is complete discards what was stored ahead.
struct Receiving {
    core: Arc<Core>,
    header: CompleteDocumentHeader,
    upload: Upload,
    received: u32,
    gathered: Vec<Chunk>,
    gathered_bytes: usize,
    /// The memory that the gathered chunks may use.
    permits: Vec<OwnedSemaphorePermit>,
    staged: bool,
}

impl Receiving {
    const fn new(core: Arc<Core>, header: CompleteDocumentHeader, upload: Upload) -> Self {
        Self {
            core,
            header,
            upload,
            received: 0,
            gathered: Vec::new(),
            gathered_bytes: 0,
            permits: Vec::new(),
            staged: false,
        }
    }

    async fn take(&mut self, batch: pb::ChunkBatch) -> Result<(), Error> {
        let bytes = batch.encoded_len();
        let text = format!("must be at most {MESSAGE} bytes together, are {bytes}");
        Checks::new().require(bytes <= MESSAGE, "chunks", text).finish()?;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.core.upload_bytes).try_acquire_many_owned(permits).ok();
        for chunk in batch.chunks {
            let chunk = read(chunk, self.received)?;
            self.received += 1;
            if self.received > self.header.chunk_count {
                return Err(self.miscounted("more"));
            }
            self.gathered.push(chunk);
        }
        self.gathered_bytes += bytes;
        let unlimited = permit.is_none();
        self.permits.extend(permit);
        // Others use the memory there is: this upload's share goes to the database at once.
        if unlimited || self.gathered_bytes > GATHERED {
            self.stage().await?;
        }
        Ok(())
    }

    async fn stage(&mut self) -> Result<(), Error> {
        let chunks = std::mem::take(&mut self.gathered);
        self.staged = true;
        self.core.repository.stage_chunks(&self.upload, chunks).await?;
        self.gathered_bytes = 0;
        self.permits.clear();
        Ok(())
    }

    async fn complete(mut self) -> Result<Document, Error> {
        if self.received < self.header.chunk_count {
            return Err(self.miscounted("fewer"));
        }
        let rest = std::mem::take(&mut self.gathered);
        let (version, count) = (self.header.version, self.header.chunk_count);
        let completed = self.core.repository.complete_document(&self.upload, version, count, rest).await?;
        self.staged = false;
        Ok(self.core.settle(completed).await)
    }

    fn miscounted(&self, how: &str) -> Error {
        let text = format!("says {}, {how} chunks came", self.header.chunk_count);
        Error::invalid("header.chunk_count", text)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.staged {
            return;
        }
        let (core, upload) = (Arc::clone(&self.core), self.upload.clone());
        self.core.tasks.spawn(async move {
            if let Err(error) = core.repository.discard_upload(&upload).await {
                // The document's next completion drops them.
                tracing::debug!(error = weft_mesh::error::chain(&error), "staged chunks not discarded");
            }
        });
    }
}

fn read(chunk: pb::Chunk, expected: u32) -> Result<Chunk, Error> {
    let field = |name: &str| format!("chunks[{expected}].{name}");
    let pb::Chunk { ordinal, text, embedding, heading } = chunk;
    let text_is = format!("must be {expected}, is {ordinal}");
    Checks::new()
        .require(ordinal == expected, &field("ordinal"), text_is)
        .bytes(&field("text"), &text, 0..=TEXT)
        .bytes(&field("heading"), &heading, 0..=TEXT)
        .finish()?;
    let embedding = validate::embedding(&field("embedding"), &embedding)?;
    Ok(Chunk { ordinal, heading, text, embedding })
}
