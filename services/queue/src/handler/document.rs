//! Makes a document searchable: its bytes from the assets service, text, chunks, embeddings, into the database.

use std::time::{Duration, Instant};

use weft_mesh::{
    Channel,
    error::{CallError, ErrorKind},
};
use weft_proto::{
    assets::v1::{GetAssetRequest, asset_service_client::AssetServiceClient, get_asset_response},
    database::v1::{
        Chunk, ChunkBatch, CompleteDocumentHeader, CompleteDocumentRequest, Document, DocumentState,
        FailDocumentRequest, GetDocumentRequest, complete_document_request::Part,
        document_service_client::DocumentServiceClient,
    },
    queue::v1::IngestDocument,
};

use super::Failure;
use crate::{
    embedder::{self, Embedder},
    extractor::{
        ExtractError, Extractor,
        frame::{self, Request},
    },
    job::Job,
    metrics::Metrics,
    worker::output::Output,
};

/// How long fetching a document's bytes, or storing its chunks, may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(120);
/// The most of a batch of chunks; the database takes messages of 1 MiB.
const MAX_BATCH_BYTES: usize = 768 << 10;
/// The most characters of a reason; the database takes 2000.
const MAX_REASON_CHARS: usize = 1000;

/// Handles `weft.queue.v1.IngestDocument`.
pub struct DocumentHandler {
    /// The document's row and chunks.
    pub documents: DocumentServiceClient<Channel>,
    /// The document's bytes.
    pub assets: AssetServiceClient<Channel>,
    /// Bytes into chunks.
    pub extractor: Extractor,
    /// Chunks into vectors.
    pub embedder: Embedder,
    /// The largest document, in bytes.
    pub max_bytes: u64,
    /// The length of a chunk, in characters.
    pub chunk_chars: usize,
    /// What is counted.
    pub metrics: Metrics,
}

/// What fetching the bytes came to.
enum Fetched {
    Bytes(Vec<u8>),
    /// They cannot be had, and another attempt would not change that.
    Refused(String),
}

impl DocumentHandler {
    /// Runs one attempt. A document that cannot be read is a result, FAILED with the reason, and no failure of the job.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn run(&self, _job: &Job, payload: IngestDocument, output: &Output) -> Result<(), Failure> {
        let Some(document) = self.document(&payload).await? else { return Ok(()) };
        output.progress("fetch", 0, document.size_bytes);
        let bytes = match self.fetch(&document).await? {
            Fetched::Bytes(bytes) => bytes,
            Fetched::Refused(reason) => return self.give_up(&payload, &reason).await,
        };
        output.progress("extract", 0, bytes.len() as u64);
        let chunks = match self.extract(&document, &bytes).await? {
            Ok(chunks) => chunks,
            Err(reason) => return self.give_up(&payload, &reason).await,
        };
        let total = chunks.len() as u64;
        output.progress("embed", 0, total);
        let embeddings = self.embedder.embed(chunks.iter().map(searchable_text).collect()).await?;
        output.progress("store", 0, total);
        self.complete(&payload, chunks, embeddings).await?;
        output.progress("store", total, total);
        Ok(())
    }

    /// Makes the document FAILED with the reason, unless it has a newer version or is gone by now.
    ///
    /// # Errors
    /// Why that could not be done.
    pub async fn give_up(&self, payload: &IngestDocument, reason: &str) -> Result<(), Failure> {
        let request = FailDocumentRequest {
            document_id: payload.document_id.clone(),
            version: payload.version,
            reason: reason.chars().take(MAX_REASON_CHARS).collect(),
        };
        let failed = self.documents.clone().fail_document(request).await;
        superseded_is_fine("marking the document as failed", failed.map(drop))
    }

    /// The document, if this version of it is still to be ingested.
    async fn document(&self, payload: &IngestDocument) -> Result<Option<Document>, Failure> {
        let request = GetDocumentRequest { id: payload.document_id.clone() };
        let document = match self.documents.clone().get_document(request).await.map_err(CallError::from) {
            Ok(response) => response.into_inner().document,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None), // deleted since
            Err(error) => return Err(Failure::call("reading the document", &error)),
        };
        let document = document.ok_or_else(|| Failure::retry("the database answered without a document"))?;
        if document.version < payload.version {
            return Err(Failure::retry("the database does not have this version of the document yet"));
        }
        let ready = document.state() == DocumentState::Ready;
        Ok((document.version == payload.version && !ready).then_some(document))
    }

    async fn fetch(&self, document: &Document) -> Result<Fetched, Failure> {
        if document.size_bytes > self.max_bytes {
            let (size, most) = (document.size_bytes, self.max_bytes);
            return Ok(Fetched::Refused(format!("the file has {size} bytes; at most {most} are read")));
        }
        match tokio::time::timeout(TRANSFER_TIMEOUT, self.download(&document.asset_id)).await {
            Err(_) => Err(Failure::retry("fetching the document's bytes took too long")),
            Ok(Err(error)) if error.kind == ErrorKind::NotFound => {
                Ok(Fetched::Refused("the document's bytes are not there any more".to_owned()))
            }
            Ok(Err(error)) => Err(Failure::call("fetching the document's bytes", &error)),
            Ok(Ok(bytes)) if blake3::hash(&bytes).to_hex().as_str() != document.asset_id => {
                Err(Failure::retry("the document's bytes came damaged or cut off"))
            }
            Ok(Ok(bytes)) => Ok(Fetched::Bytes(bytes)),
        }
    }

    async fn download(&self, id: &str) -> Result<Vec<u8>, CallError> {
        let request = GetAssetRequest { id: id.to_owned() };
        let mut parts = self.assets.clone().get_asset(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            if let Some(get_asset_response::Part::Data(data)) = part.part {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() as u64 > self.max_bytes {
                break; // no such document: its hash will not fit either
            }
        }
        Ok(bytes)
    }

    async fn extract(
        &self,
        document: &Document,
        bytes: &[u8],
    ) -> Result<Result<Vec<frame::Chunk>, String>, Failure> {
        let request = Request {
            path: document.path.clone(),
            content_type: document.content_type.clone(),
            chunk_chars: self.chunk_chars,
        };
        let started = Instant::now();
        let extracted = self.extractor.extract(&request, bytes).await;
        self.metrics.extracted(started.elapsed(), extracted.is_err());
        match extracted {
            Ok(chunks) => Ok(Ok(chunks)),
            Err(ExtractError::Refused(reason)) => Ok(Err(reason)),
            Err(error @ ExtractError::Unavailable(_)) => Err(Failure::retry(weft_mesh::error::chain(&error))),
        }
    }

    async fn complete(
        &self,
        payload: &IngestDocument,
        chunks: Vec<frame::Chunk>,
        embeddings: Vec<Vec<f32>>,
    ) -> Result<(), Failure> {
        let header = CompleteDocumentHeader {
            document_id: payload.document_id.clone(),
            version: payload.version,
            chunk_count: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
        };
        let header = std::iter::once(Part::Header(header));
        let batches =
            batches(chunks, embeddings).into_iter().map(|chunks| Part::Chunks(ChunkBatch { chunks }));
        let parts = header.chain(batches).map(|part| CompleteDocumentRequest { part: Some(part) });
        let parts: Vec<CompleteDocumentRequest> = parts.collect();
        let mut documents = self.documents.clone();
        let completing = documents.complete_document(tokio_stream::iter(parts));
        match tokio::time::timeout(TRANSFER_TIMEOUT, completing).await {
            Err(_) => Err(Failure::retry("storing the chunks took too long")),
            Ok(completed) => superseded_is_fine("storing the chunks", completed.map(drop)),
        }
    }
}

/// A newer version of the document has a job of its own, and a deleted one needs none.
fn superseded_is_fine(what: &str, result: Result<(), tonic::Status>) -> Result<(), Failure> {
    match result.map_err(CallError::from) {
        Err(error) if matches!(error.kind, ErrorKind::FailedPrecondition | ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(Failure::call(what, &error)),
        Ok(()) => Ok(()),
    }
}

fn searchable_text(chunk: &frame::Chunk) -> String {
    format!("{}\n{}", chunk.heading, chunk.text)
}

fn batches(chunks: Vec<frame::Chunk>, embeddings: Vec<Vec<f32>>) -> Vec<Vec<Chunk>> {
    let mut batches: Vec<Vec<Chunk>> = Vec::new();
    let mut room = 0;
    for (ordinal, (chunk, embedding)) in (0..).zip(chunks.into_iter().zip(embeddings)) {
        let embedding = embedder::encode(&embedding);
        let size = chunk.text.len() + chunk.heading.len() + embedding.len() + 64;
        if size > room || batches.is_empty() {
            batches.push(Vec::new());
            room = MAX_BATCH_BYTES;
        }
        room = room.saturating_sub(size);
        let chunk = Chunk { ordinal, text: chunk.text, embedding: embedding.into(), heading: chunk.heading };
        if let Some(batch) = batches.last_mut() {
            batch.push(chunk);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_order_and_stay_below_the_limit() {
        let chunk = |i: usize| frame::Chunk { heading: String::new(), text: "x".repeat(1000 + i % 7) };
        let batches = batches((0..3000).map(chunk).collect(), vec![vec![0.5; 384]; 3000]);
        assert!(batches.len() > 1);
        let ordinals: Vec<u32> = batches.iter().flatten().map(|chunk| chunk.ordinal).collect();
        assert_eq!(ordinals, (0..3000).collect::<Vec<u32>>());
        for batch in batches {
            let size = prost::Message::encoded_len(&ChunkBatch { chunks: batch });
            assert!(size < 1 << 20, "{size}");
        }
    }
}
