//! DocumentService.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, document_service_server::DocumentService};

use super::{Core, SIZES, caller, in_order, page, upload::receive};
use crate::{
    entities::DocumentState,
    error::Error,
    page::{Position, Scope, write},
    read_through::Key,
    repository::{documents::NewDocument, outbox::Entity},
    validate::Checks,
};

/// Characters of a BLAKE3 hash as hex.
const HASH: usize = 64;

pub(crate) struct Documents(pub(crate) Arc<Core>);

impl Documents {
    async fn put(&self, request: pb::PutDocumentRequest) -> Result<pb::PutDocumentResponse, Error> {
        let pb::PutDocumentRequest { path, asset_id, content_type, size_bytes } = request;
        let is_hash =
            asset_id.len() == HASH && asset_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        Checks::new()
            .bytes("path", &path, 1..=1024)
            .no_control("path", &path)
            .require(is_hash, "asset_id", "must be a BLAKE3 hash: 64 lower-case hexadecimal digits")
            .bytes("content_type", &content_type, 0..=255)
            .no_control("content_type", &content_type)
            .require(i64::try_from(size_bytes).is_ok(), "size_bytes", "is too large")
            .finish()?;
        let new = NewDocument { path, asset_id, content_type, size_bytes };
        let put = self.0.repository.put_document(&caller(), new).await?;
        let put = self.0.settle(put).await;
        Ok(pb::PutDocumentResponse { document: Some(put.document.into()), changed: put.changed })
    }

    async fn get(&self, id: String) -> Result<pb::GetDocumentResponse, Error> {
        Checks::new().id("id", &id, 128).finish()?;
        let key = Key::Entity(Entity::Document, id.clone());
        let load = async { Ok(self.0.repository.document(&id).await?.map(pb::Document::from)) };
        let document = self.0.cache.read(&key, load).await?;
        // The cache knows documents by id alone: whose it is must be asked of what it holds.
        let document = document.filter(|document| document.owner == caller());
        Ok(pb::GetDocumentResponse {
            document: Some(document.ok_or_else(|| Error::not_found("document", &id))?),
        })
    }

    async fn batch_get(&self, ids: Vec<String>) -> Result<pb::BatchGetDocumentsResponse, Error> {
        Checks::new().ids("ids", &ids).finish()?;
        let found = self.0.repository.documents_by_id(&caller(), &ids).await?;
        let documents = in_order(&ids, &found, |document| &document.id);
        Ok(pb::BatchGetDocumentsResponse { documents: documents.into_iter().map(Into::into).collect() })
    }

    async fn list(&self, request: pb::ListDocumentsRequest) -> Result<pb::ListDocumentsResponse, Error> {
        let state = match pb::DocumentState::try_from(request.state) {
            Ok(pb::DocumentState::Unspecified) => None,
            Ok(pb::DocumentState::Pending) => Some(DocumentState::Pending),
            Ok(pb::DocumentState::Ready) => Some(DocumentState::Ready),
            Ok(pb::DocumentState::Failed) => Some(DocumentState::Failed),
            Err(_) => return Err(Error::invalid("state", format!("{} is no state", request.state))),
        };
        let (owner, filter) = (caller(), request.state.to_string());
        let scope = Scope { list: "documents", owner: &owner, filter: &filter };
        let page = page(scope, SIZES, request.page_size, &request.page_token, Position::lowest())?;
        let load = async {
            let page = self.0.repository.list_documents(&owner, state, &page).await?;
            let next_page_token = write(scope, page.next.as_ref());
            let documents = page.rows.into_iter().map(Into::into).collect();
            Ok(Some(pb::ListDocumentsResponse { documents, next_page_token }))
        };
        let key = Key::DocumentList(owner.clone());
        let cached = page.is_default && state.is_none();
        let listed = if cached { self.0.cache.read(&key, load).await } else { load.await };
        Ok(listed?.unwrap_or_default())
    }

    async fn delete(&self, id: String) -> Result<pb::DeleteDocumentResponse, Error> {
        Checks::new().id("id", &id, 128).finish()?;
        let deleted = self.0.repository.delete_document(&caller(), id).await?;
        self.0.settle(deleted).await;
        Ok(pb::DeleteDocumentResponse {})
    }

    async fn fail(&self, request: pb::FailDocumentRequest) -> Result<pb::FailDocumentResponse, Error> {
        let pb::FailDocumentRequest { document_id, version, reason } = request;
        Checks::new()
            .id("document_id", &document_id, 128)
            .require(!reason.is_empty(), "reason", "must not be empty")
            .chars("reason", &reason, 2000)
            .finish()?;
        let failed = self.0.repository.fail_document(&caller(), document_id, version, reason).await?;
        Ok(pb::FailDocumentResponse { document: Some(self.0.settle(failed).await.into()) })
    }
}

#[tonic::async_trait]
impl DocumentService for Documents {
    async fn put_document(
        &self,
        request: Request<pb::PutDocumentRequest>,
    ) -> Result<Response<pb::PutDocumentResponse>, Status> {
        self.put(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_document(
        &self,
        request: Request<pb::GetDocumentRequest>,
    ) -> Result<Response<pb::GetDocumentResponse>, Status> {
        self.get(request.into_inner().id).await.map(Response::new).map_err(status)
    }

    async fn batch_get_documents(
        &self,
        request: Request<pb::BatchGetDocumentsRequest>,
    ) -> Result<Response<pb::BatchGetDocumentsResponse>, Status> {
        self.batch_get(request.into_inner().ids).await.map(Response::new).map_err(status)
    }

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_document(
        &self,
        request: Request<pb::DeleteDocumentRequest>,
    ) -> Result<Response<pb::DeleteDocumentResponse>, Status> {
        self.delete(request.into_inner().id).await.map(Response::new).map_err(status)
    }

    async fn complete_document(
        &self,
        request: Request<Streaming<pb::CompleteDocumentRequest>>,
    ) -> Result<Response<pb::CompleteDocumentResponse>, Status> {
        let document = receive(&self.0, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(pb::CompleteDocumentResponse { document: Some(document.into()) }))
    }

    async fn fail_document(
        &self,
        request: Request<pb::FailDocumentRequest>,
    ) -> Result<Response<pb::FailDocumentResponse>, Status> {
        self.fail(request.into_inner()).await.map(Response::new).map_err(status)
    }
}
