//! ChatService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, chat_service_server::ChatService};

use super::{Core, SMALL_SIZES, caller, in_order, page};
use crate::{
    error::Error,
    page::{Position, Scope, write},
    read_through::Key,
    repository::{chats::NewChat, outbox::Entity},
    validate::{Checks, idempotency_key},
};

/// A title has at most so many characters.
const TITLE: usize = 500;

pub(crate) struct Chats(pub(crate) Arc<Core>);

impl Chats {
    async fn create(&self, request: pb::CreateChatRequest) -> Result<pb::CreateChatResponse, Error> {
        let pb::CreateChatRequest { title, model_id, idempotency_key: key } = request;
        Checks::new().chars("title", &title, TITLE).bytes("model_id", &model_id, 0..=256).finish()?;
        let new = NewChat { title, model_id, idempotency_key: idempotency_key(key)? };
        let created = self.0.repository.create_chat(&caller(), new).await?;
        Ok(pb::CreateChatResponse { chat: Some(self.0.settle(created).await.into()) })
    }

    async fn get(&self, id: String) -> Result<pb::GetChatResponse, Error> {
        Checks::new().id("id", &id, 128).finish()?;
        let key = Key::Entity(Entity::Chat, id.clone());
        let load = async { Ok(self.0.repository.chat(&id).await?.map(pb::Chat::from)) };
        let chat = self.0.cache.read(&key, load).await?;
        // The cache knows chats by id alone: whose it is must be asked of what it holds.
        let chat = chat.filter(|chat| chat.owner == caller());
        Ok(pb::GetChatResponse { chat: Some(chat.ok_or_else(|| Error::not_found("chat", &id))?) })
    }

    async fn batch_get(&self, ids: Vec<String>) -> Result<pb::BatchGetChatsResponse, Error> {
        Checks::new().ids("ids", &ids).finish()?;
        let found = self.0.repository.chats_by_id(&caller(), &ids).await?;
        let chats = in_order(&ids, &found, |chat| &chat.id);
        Ok(pb::BatchGetChatsResponse { chats: chats.into_iter().map(Into::into).collect() })
    }

    async fn list(&self, request: pb::ListChatsRequest) -> Result<pb::ListChatsResponse, Error> {
        let owner = caller();
        let scope = Scope { list: "chats", owner: &owner, filter: "" };
        let page = page(scope, SMALL_SIZES, request.page_size, &request.page_token, Position::highest())?;
        let load = async {
            let page = self.0.repository.list_chats(&owner, &page).await?;
            let next_page_token = write(scope, page.next.as_ref());
            let chats = page.rows.into_iter().map(Into::into).collect();
            Ok(Some(pb::ListChatsResponse { chats, next_page_token }))
        };
        let key = Key::ChatList(owner.clone());
        let listed = if page.is_default { self.0.cache.read(&key, load).await } else { load.await };
        Ok(listed?.unwrap_or_default())
    }

    async fn update(&self, request: pb::UpdateChatRequest) -> Result<pb::UpdateChatResponse, Error> {
        let pb::UpdateChatRequest { id, title } = request;
        Checks::new().id("id", &id, 128).chars("title", &title, TITLE).finish()?;
        let renamed = self.0.repository.rename_chat(&caller(), id, title).await?;
        Ok(pb::UpdateChatResponse { chat: Some(self.0.settle(renamed).await.into()) })
    }

    async fn delete(&self, id: String) -> Result<pb::DeleteChatResponse, Error> {
        Checks::new().id("id", &id, 128).finish()?;
        let deleted = self.0.repository.delete_chat(&caller(), id).await?;
        self.0.settle(deleted).await;
        Ok(pb::DeleteChatResponse {})
    }
}

#[tonic::async_trait]
impl ChatService for Chats {
    async fn create_chat(
        &self,
        request: Request<pb::CreateChatRequest>,
    ) -> Result<Response<pb::CreateChatResponse>, Status> {
        self.create(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_chat(
        &self,
        request: Request<pb::GetChatRequest>,
    ) -> Result<Response<pb::GetChatResponse>, Status> {
        self.get(request.into_inner().id).await.map(Response::new).map_err(status)
    }

    async fn batch_get_chats(
        &self,
        request: Request<pb::BatchGetChatsRequest>,
    ) -> Result<Response<pb::BatchGetChatsResponse>, Status> {
        self.batch_get(request.into_inner().ids).await.map(Response::new).map_err(status)
    }

    async fn list_chats(
        &self,
        request: Request<pb::ListChatsRequest>,
    ) -> Result<Response<pb::ListChatsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn update_chat(
        &self,
        request: Request<pb::UpdateChatRequest>,
    ) -> Result<Response<pb::UpdateChatResponse>, Status> {
        self.update(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_chat(
        &self,
        request: Request<pb::DeleteChatRequest>,
    ) -> Result<Response<pb::DeleteChatResponse>, Status> {
        self.delete(request.into_inner().id).await.map(Response::new).map_err(status)
    }
}
