//! MessageService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, message_service_server::MessageService};

use super::{Core, caller, page};
use crate::{
    error::Error,
    page::{Position, Scope, Sizes, write},
    repository::messages::Reply,
    validate::{Checks, idempotency_key},
};

const SIZES: Sizes = Sizes { default: 50, max: 500 };
/// A message has at most so many bytes.
const CONTENT: usize = 256 * 1024;
/// An answer quotes at most so many passages, each a chunk at most.
const CITATIONS: usize = 32;
const PASSAGE: usize = 16 * 1024;

pub(crate) struct Messages(pub(crate) Arc<Core>);

impl Messages {
    async fn post(&self, request: pb::PostMessageRequest) -> Result<pb::PostMessageResponse, Error> {
        let pb::PostMessageRequest { chat_id, content, idempotency_key: key } = request;
        Checks::new().id("chat_id", &chat_id, 128).bytes("content", &content, 1..=CONTENT).finish()?;
        let key = idempotency_key(key)?;
        let posted = self.0.repository.post_message(&caller(), chat_id, content, key).await?;
        let message = self.0.settle(posted).await;
        Ok(pb::PostMessageResponse { job_id: message.job_id.clone(), message: Some(message.into()) })
    }

    async fn append(&self, request: pb::AppendReplyRequest) -> Result<pb::AppendReplyResponse, Error> {
        let pb::AppendReplyRequest { chat_id, job_id, content, citations } = request;
        let mut checks = Checks::new();
        checks.id("chat_id", &chat_id, 128).id("job_id", &job_id, 128).bytes(
            "content",
            &content,
            0..=CONTENT,
        );
        let text = format!("must be at most {CITATIONS}, are {}", citations.len());
        checks.require(citations.len() <= CITATIONS, "citations", text);
        for (index, citation) in citations.iter().enumerate().take(CITATIONS) {
            let field = |name: &str| format!("citations[{index}].{name}");
            checks.bytes(&field("document_id"), &citation.document_id, 0..=128);
            checks.bytes(&field("path"), &citation.path, 0..=1024);
            checks.bytes(&field("text"), &citation.text, 0..=PASSAGE);
            checks.require(citation.score.is_finite(), &field("score"), "must be finite");
        }
        checks.finish()?;
        let citations = citations.into_iter().map(Into::into).collect();
        let reply = Reply { chat_id, job_id, content, citations };
        let appended = self.0.repository.append_reply(&caller(), reply).await?;
        Ok(pb::AppendReplyResponse { message: Some(self.0.settle(appended).await.into()) })
    }

    async fn list(&self, request: pb::ListMessagesRequest) -> Result<pb::ListMessagesResponse, Error> {
        let pb::ListMessagesRequest { chat_id, page_size, page_token } = request;
        Checks::new().id("chat_id", &chat_id, 128).finish()?;
        let owner = caller();
        let scope = Scope { list: "messages", owner: &owner, filter: &chat_id };
        let page = page(scope, SIZES, page_size, &page_token, Position::highest())?;
        let page = self.0.repository.list_messages(&owner, &chat_id, &page).await?;
        let next_page_token = write(scope, page.next.as_ref());
        Ok(pb::ListMessagesResponse {
            messages: page.rows.into_iter().map(Into::into).collect(),
            next_page_token,
        })
    }
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn post_message(
        &self,
        request: Request<pb::PostMessageRequest>,
    ) -> Result<Response<pb::PostMessageResponse>, Status> {
        self.post(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn append_reply(
        &self,
        request: Request<pb::AppendReplyRequest>,
    ) -> Result<Response<pb::AppendReplyResponse>, Status> {
        self.append(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }
}
