//! Users.

use uuid::Uuid;

use super::{Committed, Query, Repository, Row, outbox::Entity};
use crate::{
    entities::User,
    error::Error,
    page::{Page, PageRequest, Position},
    params,
};

impl User {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.text("id")?,
            display_name: row.text("display_name")?,
            created_at: row.micros("created_at")?,
        })
    }
}

impl Repository {
    /// Creates a user.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], or when the database fails.
    pub async fn create_user(&self, id: String, display_name: String) -> Result<Committed<User>, Error> {
        let owner = id.clone();
        let created = self.write(&owner, move |work| {
            Box::pin(async move {
                let now = work.now;
                if work.execute(Query::UserCreate, params![&id, &display_name, now]).await? == 0 {
                    return Err(Error::AlreadyExists { what: "user", id });
                }
                work.owe_invalidation(Entity::User, &id);
                Ok(User { id, display_name, created_at: now })
            })
        });
        created.await
    }

    /// One user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user(&self, id: &str) -> Result<Option<User>, Error> {
        self.read_one(Query::UserGet, params![id]).await?.as_ref().map(User::read).transpose()
    }

    /// The users that there are, in any order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn users_by_id(&self, ids: &[String]) -> Result<Vec<User>, Error> {
        self.read(Query::UserBatchGet, params![ids]).await?.iter().map(User::read).collect()
    }

    /// Users by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_users(&self, page: &PageRequest) -> Result<Page<User>, Error> {
        let rows = self.read(Query::UserList, params![&page.after.text, page.size + 1]).await?;
        let users = rows.iter().map(User::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(users, page.size, |user| Position { number: 0, text: user.id.clone() }))
    }

    /// Changes a user's display name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub async fn rename_user(&self, id: String, display_name: String) -> Result<Committed<User>, Error> {
        let owner = id.clone();
        let renamed = self.write(&owner, move |work| {
            Box::pin(async move {
                let row = work.one(Query::UserUpdate, params![&id, display_name]).await?;
                work.owe_invalidation(Entity::User, &id);
                row.as_ref().map(User::read).transpose()?.ok_or_else(|| Error::not_found("user", &id))
            })
        });
        renamed.await
    }

    /// Deletes a user with all that is theirs. There need not be one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_user(&self, id: String) -> Result<Committed<()>, Error> {
        let (owner, has_cache) = (id.clone(), self.has_cache);
        let deleted = self.write(&owner, move |work| {
            Box::pin(async move {
                if has_cache {
                    for query in [Query::UserChatsForget, Query::UserDocumentsForget] {
                        let (prefix, now) = (Uuid::now_v7().to_string(), work.now);
                        work.execute(query, params![prefix, &id, Vec::<u8>::new(), now]).await?;
                    }
                }
                work.execute(Query::UserDelete, params![&id]).await?;
                work.owe_invalidation(Entity::User, &id);
                Ok(())
            })
        });
        deleted.await
    }
}
