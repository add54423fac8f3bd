//! Chats: a row each, with the summary that lists show.

use uuid::Uuid;

use super::{Committed, Query, Repository, Row, Transaction, outbox::Entity};
use crate::{
    entities::Chat,
    error::Error,
    page::{Page, PageRequest, Position},
    params,
};

/// A chat to be created.
#[derive(Clone, Debug, Default)]
pub struct NewChat {
    /// Empty means the beginning of the first message.
    pub title: String,
    /// Empty means the configured default.
    pub model_id: String,
    /// The same key returns the first chat.
    pub idempotency_key: Option<String>,
}

impl Chat {
    pub(super) fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.text("id")?,
            owner: row.text("owner")?,
            model_id: row.text("model_id")?,
            created_at: row.micros("created_at")?,
            updated_at: row.micros("updated_at")?,
            message_count: row.int("message_count")?,
            title: row.text("title")?,
            last_message: row.text("last_message")?,
        })
    }

    fn position(&self) -> Position {
        Position { number: self.updated_at.0, text: self.id.clone() }
    }
}

impl Transaction<'_> {
    /// The owner's chat, locked until the transaction ends.
    pub(super) async fn lock_chat(&mut self, id: &str) -> Result<Chat, Error> {
        let row = self.one(Query::ChatLock, params![id]).await?;
        let chat = row.as_ref().map(Chat::read).transpose()?;
        chat.filter(|chat| chat.owner == self.owner).ok_or_else(|| Error::not_found("chat", id))
    }

    async fn create_chat(&mut self, new: NewChat) -> Result<Chat, Error> {
        self.ensure_user().await?;
        let (owner, now) = (self.owner.clone(), self.now);
        let chat = Chat {
            id: Uuid::now_v7().to_string(),
            owner,
            model_id: new.model_id,
            created_at: now,
            updated_at: now,
            message_count: 0,
            title: new.title,
            last_message: String::new(),
        };
        let key = new.idempotency_key;
        let values = params![&chat.id, &chat.owner, &chat.model_id, now, key.clone(), &chat.title];
        if self.execute(Query::ChatCreate, values).await? == 1 {
            self.owe_invalidation(Entity::Chat, &chat.id);
            return Ok(chat);
        }
        let row = self.one(Query::ChatByIdempotencyKey, params![&chat.owner, key]).await?;
        row.as_ref()
            .map(Chat::read)
            .transpose()?
            .ok_or_else(|| Error::internal("a new chat conflicts with none"))
    }
}

impl Repository {
    /// Creates a chat, or finds the one created with the same idempotency key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_chat(&self, owner: &str, new: NewChat) -> Result<Committed<Chat>, Error> {
        self.write(owner, move |work| Box::pin(work.create_chat(new))).await
    }

    /// One chat, whoever owns it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn chat(&self, id: &str) -> Result<Option<Chat>, Error> {
        self.read_one(Query::ChatGet, params![id]).await?.as_ref().map(Chat::read).transpose()
    }

    /// The owner's chats of these ids, in any order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn chats_by_id(&self, owner: &str, ids: &[String]) -> Result<Vec<Chat>, Error> {
        self.read(Query::ChatBatchGet, params![ids, owner]).await?.iter().map(Chat::read).collect()
    }

    /// The owner's chats, most recently changed first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_chats(&self, owner: &str, page: &PageRequest) -> Result<Page<Chat>, Error> {
        let values = params![owner, page.after.number, &page.after.text, page.size + 1];
        let rows = self.read(Query::ChatList, values).await?;
        let chats = rows.iter().map(Chat::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(chats, page.size, Chat::position))
    }

    /// Changes a chat's title.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub async fn rename_chat(
        &self,
        owner: &str,
        id: String,
        title: String,
    ) -> Result<Committed<Chat>, Error> {
        let renamed = self.write(owner, move |work| {
            Box::pin(async move {
                let values = params![&id, &work.owner, title, work.now];
                let row = work.one(Query::ChatRename, values).await?;
                work.owe_invalidation(Entity::Chat, &id);
                row.as_ref().map(Chat::read).transpose()?.ok_or_else(|| Error::not_found("chat", &id))
            })
        });
        renamed.await
    }

    /// Deletes a chat with its messages. There need not be one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_chat(&self, owner: &str, id: String) -> Result<Committed<()>, Error> {
        let deleted = self.write(owner, move |work| {
            Box::pin(async move {
                if work.execute(Query::ChatDelete, params![&id, &work.owner]).await? > 0 {
                    work.owe_invalidation(Entity::Chat, &id);
                }
                Ok(())
            })
        });
        deleted.await
    }
}
