//! The messages of the user's chats.

use futures::stream::BoxStream;
use weft_proto::database::v1 as pb;

use crate::{Result, Transport, error::present, pages};

/// As many as a person reads back at first; more pages follow when they are read.
const PAGE: i32 = 50;

/// The messages of the user's chats.
#[derive(Clone, Debug)]
pub struct Messages {
    raw: pb::message_service_client::MessageServiceClient<Transport>,
}

/// A message, and the job that answers it.
#[derive(Clone, Debug)]
pub struct Posted {
    /// As stored.
    pub message: pb::Message,
    /// To be given to [`Jobs::watch`](crate::Jobs::watch).
    pub job_id: String,
}

impl Messages {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::message_service_client::MessageServiceClient::new(transport) }
    }

    /// Appends the user's message and has it answered. The same idempotency key returns the first message and its job;
    /// empty means none.
    ///
    /// # Errors
    /// NOT_FOUND for the chat, INVALID_ARGUMENT for an empty or too long message.
    pub async fn post(&self, chat_id: &str, content: &str, idempotency_key: &str) -> Result<Posted> {
        let request = pb::PostMessageRequest {
            chat_id: chat_id.to_owned(),
            content: content.to_owned(),
            idempotency_key: idempotency_key.to_owned(),
        };
        let answer = self.raw.clone().post_message(request).await?.into_inner();
        Ok(Posted { message: present(answer.message, "message")?, job_id: answer.job_id })
    }

    /// All messages of a chat, newest first.
    #[must_use]
    pub fn list(&self, chat_id: &str) -> BoxStream<'static, Result<pb::Message>> {
        let raw = self.raw.clone();
        let chat_id = chat_id.to_owned();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            let request = pb::ListMessagesRequest { chat_id: chat_id.clone(), page_size: PAGE, page_token };
            async move {
                let page = raw.list_messages(request).await?.into_inner();
                Ok((page.messages, page.next_page_token))
            }
        })
    }
}
