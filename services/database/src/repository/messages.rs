//! Messages: a row each, numbered within their chat.

use prost::Message as _;
use uuid::Uuid;
use weft_proto::queue::v1::ReplyToChat;

use super::{
    Committed, Query, Repository, Row, Transaction,
    outbox::{Effect, Entity, Urgency},
};
use crate::{
    entities::{Chat, Citation, Message, Role},
    error::Error,
    page::{Page, PageRequest, Position},
    params,
};

/// How many characters of the last message a chat keeps.
const SUMMARY_CHARS: usize = 200;
/// How many characters of the first message make a title.
const TITLE_CHARS: usize = 80;
/// How many bytes of text a page of messages holds, roughly: gRPC clients take 4 MiB by default.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// An answer to be stored.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The chat.
    pub chat_id: String,
    /// The job that wrote it.
    pub job_id: String,
    /// The text.
    pub content: String,
    /// Passages it quotes.
    pub citations: Vec<Citation>,
}

impl Message {
    fn read(row: &Row) -> Result<Self, Error> {
        let citations = serde_json::from_str(&row.text("citations")?);
        Ok(Self {
            id: row.text("id")?,
            chat_id: row.text("chat_id")?,
            sequence: row.int("sequence")?,
            role: if row.int("role")? == Role::User.code() { Role::User } else { Role::Assistant },
            created_at: row.micros("created_at")?,
            job_id: row.text("job_id")?,
            citations: citations.map_err(|source| Error::caused("cannot read citations", source))?,
            content: row.text("content")?,
        })
    }
}

impl Transaction<'_> {
    async fn post(&mut self, chat_id: &str, content: String, key: Option<String>) -> Result<Message, Error> {
        let chat = self.lock_chat(chat_id).await?;
        if key.is_some() {
            let known = self.message(Query::MessageByIdempotencyKey, key.clone()).await?;
            if let Some(message) = known {
                return Ok(message);
            }
        }
        let message = self.compose(&chat, Role::User, Uuid::now_v7().to_string(), content, Vec::new());
        if !self.append(chat, &message, key.clone()).await? {
            // The same key was used in another chat at this very moment.
            let known = self.message(Query::MessageByIdempotencyKey, key).await?;
            return known.ok_or_else(|| Error::internal("a new message conflicts with none"));
        }
        self.owe(Effect::Publish {
            queue: "chat_queue".to_owned(),
            r#type: "weft.queue.v1.ReplyToChat".to_owned(),
            payload: ReplyToChat { chat_id: chat_id.to_owned(), message_id: message.id.clone() }
                .encode_to_vec(),
            job_id: message.job_id.clone(),
            urgency: Urgency::Awaited,
        });
        Ok(message)
    }

    async fn reply(&mut self, reply: Reply) -> Result<Message, Error> {
        let chat = self.lock_chat(&reply.chat_id).await?;
        if let Some(first) = self.message(Query::MessageByReplyJob, Some(reply.job_id.clone())).await? {
            return Ok(first);
        }
        let message = self.compose(&chat, Role::Assistant, reply.job_id, reply.content, reply.citations);
        if self.append(chat, &message, None).await? {
            return Ok(message);
        }
        let first = self.message(Query::MessageByReplyJob, Some(message.job_id)).await?;
        first.ok_or_else(|| Error::internal("a new reply conflicts with none"))
    }

    async fn message(&mut self, query: Query, key: Option<String>) -> Result<Option<Message>, Error> {
        let owner = self.owner.clone();
        self.one(query, params![owner, key]).await?.as_ref().map(Message::read).transpose()
    }

    fn compose(
        &self,
        chat: &Chat,
        role: Role,
        job_id: String,
        content: String,
        citations: Vec<Citation>,
    ) -> Message {
        Message {
            id: Uuid::now_v7().to_string(),
            chat_id: chat.id.clone(),
            sequence: chat.message_count + 1,
            role,
            created_at: self.now,
            job_id,
            citations,
            content,
        }
    }

    /// Stores a message and the chat's new summary; false when its key or job is known already.
    async fn append(&mut self, chat: Chat, message: &Message, key: Option<String>) -> Result<bool, Error> {
        let citations = serde_json::to_string(&message.citations);
        let citations = citations.map_err(|source| Error::caused("cannot write citations", source))?;
        let values = params![
            &message.chat_id,
            message.sequence,
            &message.id,
            &self.owner,
            message.role.code(),
            message.created_at,
            &message.job_id,
            key,
            citations,
            &message.content,
        ];
        if self.execute(Query::MessageInsert, values).await? == 0 {
            return Ok(false);
        }
        let is_first = chat.message_count == 0 && chat.title.is_empty();
        let title = if is_first {
            beginning(message.content.trim().lines().next().unwrap_or(""), TITLE_CHARS)
        } else {
            chat.title
        };
        let summary = beginning(&message.content, SUMMARY_CHARS);
        let values = params![&chat.id, message.sequence, message.created_at, summary, title];
        self.execute(Query::ChatAppend, values).await?;
        self.owe_invalidation(Entity::Chat, &chat.id);
        Ok(true)
    }
}

impl Repository {
    /// Appends the user's message, and owes the job that answers it. The same idempotency key finds the first message.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the owner has no such chat, or when the database fails.
    pub async fn post_message(
        &self,
        owner: &str,
        chat_id: String,
        content: String,
        idempotency_key: Option<String>,
    ) -> Result<Committed<Message>, Error> {
        let posted = self.write(owner, move |work| {
            Box::pin(async move { work.post(&chat_id, content, idempotency_key).await })
        });
        posted.await
    }

    /// Appends the answer of a job; a second one of the same job finds the first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the owner has no such chat, or when the database fails.
    pub async fn append_reply(&self, owner: &str, reply: Reply) -> Result<Committed<Message>, Error> {
        self.write(owner, move |work| Box::pin(work.reply(reply))).await
    }

    /// Messages of the owner's chat, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the owner has no such chat, or when the database fails.
    pub async fn list_messages(
        &self,
        owner: &str,
        chat_id: &str,
        page: &PageRequest,
    ) -> Result<Page<Message>, Error> {
        let mut session = self.engine.reader().await?;
        let rows = session.rows(Query::ChatGet, params![chat_id]).await?;
        let chat = rows.first().map(Chat::read).transpose()?;
        chat.filter(|chat| chat.owner == owner).ok_or_else(|| Error::not_found("chat", chat_id))?;
        let values = params![chat_id, page.after.number, page.size + 1, PAGE_BYTES];
        let rows = session.rows(Query::MessageList, values).await?;
        let messages = rows.iter().map(Message::read).collect::<Result<Vec<_>, _>>()?;
        // A page cut short by its bytes is as good as one cut by its size; the one after it may be empty.
        let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        let size = if bytes < PAGE_BYTES { page.size } else { page.size.min(messages.len() - 1).max(1) };
        Ok(Page::cut(messages, size, |message| Position { number: message.sequence, text: String::new() }))
    }
}

fn beginning(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}
