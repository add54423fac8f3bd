//! Notifications.

use uuid::Uuid;

use super::{Committed, Query, Repository, Row};
use crate::{
    entities::{Micros, Notification},
    error::Error,
    page::{Page, PageRequest, Position},
    params,
};

impl Notification {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.text("id")?,
            kind: row.text("kind")?,
            subject_id: row.text("subject_id")?,
            created_at: row.micros("created_at")?,
            read_at: row.optional_int("read_at")?.map(Micros),
            text: row.text("text")?,
        })
    }
}

impl Repository {
    /// Stores a notification of a job; a second one of the same job finds the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_notification(
        &self,
        owner: &str,
        job_id: String,
        kind: String,
        subject_id: String,
        text: String,
    ) -> Result<Committed<Notification>, Error> {
        let created = self.write(owner, move |work| {
            Box::pin(async move {
                work.ensure_user().await?;
                let (owner, id) = (work.owner.clone(), Uuid::now_v7().to_string());
                let values = params![id, &owner, &job_id, kind, subject_id, work.now, text];
                work.execute(Query::NotificationCreate, values).await?;
                let row = work.one(Query::NotificationByJob, params![owner, job_id]).await?;
                let stored = row.as_ref().map(Notification::read).transpose()?;
                stored.ok_or_else(|| Error::internal("a notification vanished"))
            })
        });
        created.await
    }

    /// The owner's notifications, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_notifications(
        &self,
        owner: &str,
        unread_only: bool,
        page: &PageRequest,
    ) -> Result<Page<Notification>, Error> {
        let query = if unread_only { Query::NotificationListUnread } else { Query::NotificationList };
        let rows =
            self.read(query, params![owner, page.after.number, &page.after.text, page.size + 1]).await?;
        let all = rows.iter().map(Notification::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(all, page.size, |one| Position { number: one.created_at.0, text: one.id.clone() }))
    }

    /// Marks the owner's notifications as read; how many were not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_notifications_read(&self, owner: &str, ids: Vec<String>) -> Result<u64, Error> {
        let marked = self.write(owner, move |work| {
            Box::pin(async move {
                let values = params![ids, &work.owner, work.now];
                work.execute(Query::NotificationMarkRead, values).await
            })
        });
        Ok(marked.await?.value)
    }
}
