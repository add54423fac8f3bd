//! As much of the database service as workers call.

use tonic::{Request, Response, Status, Streaming};
use weft_proto::database::v1::{
    AppendReplyRequest, AppendReplyResponse, BatchGetChatsRequest, BatchGetChatsResponse,
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, Chat, CompleteDocumentRequest,
    CompleteDocumentResponse, CreateChatRequest, CreateChatResponse, CreateNotificationRequest,
    CreateNotificationResponse, DeleteChatRequest, DeleteChatResponse, DeleteDocumentRequest,
    DeleteDocumentResponse, DocumentState, FailDocumentRequest, FailDocumentResponse, GetChatRequest,
    GetChatResponse, GetDocumentRequest, GetDocumentResponse, ListChatsRequest, ListChatsResponse,
    ListDocumentsRequest, ListDocumentsResponse, ListMessagesRequest, ListMessagesResponse,
    ListNotificationsRequest, ListNotificationsResponse, MarkNotificationsReadRequest,
    MarkNotificationsReadResponse, Message, Notification, PostMessageRequest, PostMessageResponse,
    PutDocumentRequest, PutDocumentResponse, Role, SearchChunksRequest, SearchChunksResponse,
    UpdateChatRequest, UpdateChatResponse, chat_service_server::ChatService, complete_document_request::Part,
    document_service_server::DocumentService, message_service_server::MessageService,
    notification_service_server::NotificationService, search_service_server::SearchService,
};

use super::{Shared, uncalled};

fn stale() -> Status {
    Status::failed_precondition("the document has a newer version")
}

#[tonic::async_trait]
impl DocumentService for Shared {
    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> Result<Response<GetDocumentResponse>, Status> {
        self.called("get_document").await?;
        let document = self.lock().documents.get(&request.into_inner().id).cloned();
        let document = document.ok_or_else(|| Status::not_found("no such document"))?;
        Ok(Response::new(GetDocumentResponse { document: Some(document) }))
    }

    async fn complete_document(
        &self,
        request: Request<Streaming<CompleteDocumentRequest>>,
    ) -> Result<Response<CompleteDocumentResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.message().await?.and_then(|part| part.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut chunks = Vec::new();
        while let Some(part) = parts.message().await? {
            let Some(Part::Chunks(batch)) = part.part else {
                return Err(Status::invalid_argument("no chunks"));
            };
            chunks.extend(batch.chunks);
        }
        self.called("complete_document").await?;
        if chunks.len() != header.chunk_count as usize {
            return Err(Status::invalid_argument("another number of chunks"));
        }
        let mut state = self.lock();
        let document =
            state.documents.get_mut(&header.document_id).ok_or_else(|| Status::not_found("gone"))?;
        if document.version != header.version {
            return Err(stale());
        }
        document.set_state(DocumentState::Ready);
        document.chunk_count = header.chunk_count;
        let document = document.clone();
        state.chunks.insert(header.document_id, chunks);
        Ok(Response::new(CompleteDocumentResponse { document: Some(document) }))
    }

    async fn fail_document(
        &self,
        request: Request<FailDocumentRequest>,
    ) -> Result<Response<FailDocumentResponse>, Status> {
        self.called("fail_document").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let document =
            state.documents.get_mut(&request.document_id).ok_or_else(|| Status::not_found("gone"))?;
        if document.version != request.version {
            return Err(stale());
        }
        document.set_state(DocumentState::Failed);
        document.reason = request.reason;
        Ok(Response::new(FailDocumentResponse { document: Some(document.clone()) }))
    }

    uncalled! {
        put_document: PutDocumentRequest => PutDocumentResponse;
        batch_get_documents: BatchGetDocumentsRequest => BatchGetDocumentsResponse;
        list_documents: ListDocumentsRequest => ListDocumentsResponse;
        delete_document: DeleteDocumentRequest => DeleteDocumentResponse;
    }
}

#[tonic::async_trait]
impl MessageService for Shared {
    async fn append_reply(
        &self,
        request: Request<AppendReplyRequest>,
    ) -> Result<Response<AppendReplyResponse>, Status> {
        self.called("append_reply").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let messages =
            state.messages.get_mut(&request.chat_id).ok_or_else(|| Status::not_found("no such chat"))?;
        let known = messages.iter().find(|message| message.job_id == request.job_id).cloned();
        let message = known.unwrap_or_else(|| {
            let message = Message {
                id: format!("reply-{}", messages.len()),
                chat_id: request.chat_id.clone(),
                role: Role::Assistant.into(),
                content: request.content,
                citations: request.citations,
                job_id: request.job_id,
                ..Message::default()
            };
            messages.push(message.clone());
            message
        });
        Ok(Response::new(AppendReplyResponse { message: Some(message) }))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        self.called("list_messages").await?;
        let request = request.into_inner();
        let state = self.lock();
        let messages =
            state.messages.get(&request.chat_id).ok_or_else(|| Status::not_found("no such chat"))?;
        let skip: usize = request.page_token.parse().unwrap_or(0);
        let size = usize::try_from(request.page_size).unwrap();
        let page: Vec<Message> = messages.iter().rev().skip(skip).take(size).cloned().collect();
        let end = skip + page.len();
        let next_page_token = if end < messages.len() { end.to_string() } else { String::new() };
        Ok(Response::new(ListMessagesResponse { messages: page, next_page_token }))
    }

    uncalled! {
        post_message: PostMessageRequest => PostMessageResponse;
    }
}

#[tonic::async_trait]
impl ChatService for Shared {
    async fn get_chat(&self, request: Request<GetChatRequest>) -> Result<Response<GetChatResponse>, Status> {
        self.called("get_chat").await?;
        let chat = Chat { id: request.into_inner().id, ..Chat::default() };
        Ok(Response::new(GetChatResponse { chat: Some(chat) }))
    }

    uncalled! {
        create_chat: CreateChatRequest => CreateChatResponse;
        batch_get_chats: BatchGetChatsRequest => BatchGetChatsResponse;
        list_chats: ListChatsRequest => ListChatsResponse;
        update_chat: UpdateChatRequest => UpdateChatResponse;
        delete_chat: DeleteChatRequest => DeleteChatResponse;
    }
}

#[tonic::async_trait]
impl SearchService for Shared {
    async fn search_chunks(
        &self,
        request: Request<SearchChunksRequest>,
    ) -> Result<Response<SearchChunksResponse>, Status> {
        self.called("search_chunks").await?;
        let request = request.into_inner();
        assert!(!request.text.is_empty() && !request.embedding.is_empty());
        Ok(Response::new(SearchChunksResponse { hits: self.lock().hits.clone() }))
    }
}

#[tonic::async_trait]
impl NotificationService for Shared {
    async fn create_notification(
        &self,
        request: Request<CreateNotificationRequest>,
    ) -> Result<Response<CreateNotificationResponse>, Status> {
        self.called("create_notification").await?;
        let request = request.into_inner();
        let mut state = self.lock();
        let notification = Notification {
            id: request.job_id,
            kind: request.kind,
            text: request.text,
            subject_id: request.subject_id,
            ..Notification::default()
        };
        if state.notifications.iter().all(|known| known.id != notification.id) {
            state.notifications.push(notification.clone());
        }
        Ok(Response::new(CreateNotificationResponse { notification: Some(notification) }))
    }

    uncalled! {
        list_notifications: ListNotificationsRequest => ListNotificationsResponse;
        mark_notifications_read: MarkNotificationsReadRequest => MarkNotificationsReadResponse;
    }
}
