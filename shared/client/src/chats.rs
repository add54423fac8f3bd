//! The user's chats.

use futures::stream::BoxStream;
use weft_proto::database::v1 as pb;

use crate::{Result, Transport, error::present, pages};

/// Pages as large as they may be: fewer round trips.
const PAGE: i32 = 200;

/// The user's chats.
#[derive(Clone, Debug)]
pub struct Chats {
    raw: pb::chat_service_client::ChatServiceClient<Transport>,
}

impl Chats {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::chat_service_client::ChatServiceClient::new(transport) }
    }

    /// Creates a chat. An empty title means the beginning of the first message, an empty model the configured default.
    /// The same idempotency key returns the first chat; empty means none.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a title or key that is too long.
    pub async fn create(&self, title: &str, model_id: &str, idempotency_key: &str) -> Result<pb::Chat> {
        let request = pb::CreateChatRequest {
            title: title.to_owned(),
            model_id: model_id.to_owned(),
            idempotency_key: idempotency_key.to_owned(),
        };
        present(self.raw.clone().create_chat(request).await?.into_inner().chat, "chat")
    }

    /// One chat.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn get(&self, id: &str) -> Result<pb::Chat> {
        let answer = self.raw.clone().get_chat(pb::GetChatRequest { id: id.to_owned() }).await?;
        present(answer.into_inner().chat, "chat")
    }

    /// All chats, most recently changed first.
    #[must_use]
    pub fn list(&self) -> BoxStream<'static, Result<pb::Chat>> {
        let raw = self.raw.clone();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            async move {
                let request = pb::ListChatsRequest { page_size: PAGE, page_token };
                let page = raw.list_chats(request).await?.into_inner();
                Ok((page.chats, page.next_page_token))
            }
        })
    }

    /// Changes a chat's title. Idempotent.
    ///
    /// # Errors
    /// NOT_FOUND, and INVALID_ARGUMENT for a title that is too long.
    pub async fn rename(&self, id: &str, title: &str) -> Result<pb::Chat> {
        let request = pb::UpdateChatRequest { id: id.to_owned(), title: title.to_owned() };
        present(self.raw.clone().update_chat(request).await?.into_inner().chat, "chat")
    }

    /// Deletes a chat with its messages. Idempotent.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.raw.clone().delete_chat(pb::DeleteChatRequest { id: id.to_owned() }).await?;
        Ok(())
    }
}
