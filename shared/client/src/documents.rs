//! The user's documents.

use std::future::ready;

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use weft_proto::database::v1 as pb;

use crate::{Result, Transport, error::present, pages};

/// The most that one batch names.
const BATCH: usize = 256;
/// Pages as large as they may be: fewer round trips.
const PAGE: i32 = 1000;

/// The user's documents.
#[derive(Clone, Debug)]
pub struct Documents {
    raw: pb::document_service_client::DocumentServiceClient<Transport>,
}

/// What a put of a document came to.
#[derive(Clone, Debug)]
pub struct PutDocument {
    /// As stored.
    pub document: pb::Document,
    /// False when nothing had changed.
    pub changed: bool,
}

impl Documents {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::document_service_client::DocumentServiceClient::new(transport) }
    }

    /// Registers an asset's bytes at a path and has them ingested. Idempotent.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a malformed path or asset id.
    pub async fn put(
        &self,
        path: &str,
        asset_id: &str,
        content_type: &str,
        size_bytes: u64,
    ) -> Result<PutDocument> {
        let request = pb::PutDocumentRequest {
            path: path.to_owned(),
            asset_id: asset_id.to_owned(),
            content_type: content_type.to_owned(),
            size_bytes,
        };
        let answer = self.raw.clone().put_document(request).await?.into_inner();
        Ok(PutDocument { document: present(answer.document, "document")?, changed: answer.changed })
    }

    /// One document.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn get(&self, id: &str) -> Result<pb::Document> {
        let answer = self.raw.clone().get_document(pb::GetDocumentRequest { id: id.to_owned() }).await?;
        present(answer.into_inner().document, "document")
    }

    /// Documents by their ids, any number, in that order; unknown ones are left out.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an empty id.
    pub async fn batch_get(&self, ids: &[String]) -> Result<Vec<pb::Document>> {
        let batches = stream::iter(ids.chunks(BATCH)).then(|ids| {
            let mut raw = self.raw.clone();
            let request = pb::BatchGetDocumentsRequest { ids: ids.to_vec() };
            async move { Ok(raw.batch_get_documents(request).await?.into_inner().documents) }
        });
        batches.try_fold(Vec::new(), |all, batch| ready(Ok([all, batch].concat()))).await
    }

    /// All documents by path, or those in one state.
    #[must_use]
    pub fn list(&self, state: Option<pb::DocumentState>) -> BoxStream<'static, Result<pb::Document>> {
        let raw = self.raw.clone();
        let state = state.unwrap_or_default().into();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            async move {
                let request = pb::ListDocumentsRequest { page_size: PAGE, page_token, state };
                let page = raw.list_documents(request).await?.into_inner();
                Ok((page.documents, page.next_page_token))
            }
        })
    }

    /// Deletes a document with its chunks. Idempotent.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.raw.clone().delete_document(pb::DeleteDocumentRequest { id: id.to_owned() }).await?;
        Ok(())
    }
}
