//! Lists by pages, batches in order.

use futures::TryStreamExt as _;
use tonic::{Request, Response, Status, Streaming, service::Routes};
use weft_client::Client;
use weft_proto::database::v1::{
    self as pb,
    document_service_server::{DocumentService, DocumentServiceServer},
};

use crate::server::{Server, unused};

/// Has the documents 0 to 2499, and pages of 1000.
struct Documents;

fn document(number: usize) -> pb::Document {
    pb::Document { id: number.to_string(), ..Default::default() }
}

#[tonic::async_trait]
impl DocumentService for Documents {
    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        let request = request.into_inner();
        let first: usize =
            if request.page_token.is_empty() { 0 } else { request.page_token.parse().unwrap() };
        let next = (first + request.page_size as usize).min(2500);
        let next_page_token = if next < 2500 { next.to_string() } else { String::new() };
        let documents = (first..next).map(document).collect();
        Ok(Response::new(pb::ListDocumentsResponse { documents, next_page_token }))
    }

    async fn batch_get_documents(
        &self,
        request: Request<pb::BatchGetDocumentsRequest>,
    ) -> Result<Response<pb::BatchGetDocumentsResponse>, Status> {
        let ids = request.into_inner().ids;
        if !(1..=256).contains(&ids.len()) {
            return Err(Status::invalid_argument("ids"));
        }
        let documents = ids.iter().map(|id| document(id.parse().unwrap())).collect();
        Ok(Response::new(pb::BatchGetDocumentsResponse { documents }))
    }

    async fn complete_document(
        &self,
        _: Request<Streaming<pb::CompleteDocumentRequest>>,
    ) -> Result<Response<pb::CompleteDocumentResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    unused! {
        put_document: PutDocumentRequest -> PutDocumentResponse;
        get_document: GetDocumentRequest -> GetDocumentResponse;
        delete_document: DeleteDocumentRequest -> DeleteDocumentResponse;
        fail_document: FailDocumentRequest -> FailDocumentResponse;
    }
}

#[tokio::test]
async fn a_list_is_read_over_all_its_pages_and_a_batch_in_as_many_calls_as_it_takes() {
    let server = Server::start(|_| Routes::new(DocumentServiceServer::new(Documents)));
    let documents = Client::connect(&server.url(), "ada").await.unwrap().documents();

    let listed: Vec<_> = documents.list(None).map_ok(|document| document.id).try_collect().await.unwrap();
    assert_eq!(listed, (0..2500).map(|n| n.to_string()).collect::<Vec<_>>());

    let ids: Vec<_> = (0..600).rev().map(|n| n.to_string()).collect();
    let got: Vec<_> =
        documents.batch_get(&ids).await.unwrap().into_iter().map(|document| document.id).collect();
    assert_eq!(got, ids);
    assert!(documents.batch_get(&[]).await.unwrap().is_empty());
}
