//! What the user has been told.

use futures::stream::BoxStream;
use weft_proto::database::v1 as pb;

use crate::{Result, Transport, pages};

/// Pages as large as they may be: fewer round trips.
const PAGE: i32 = 200;
/// The most that one batch names.
const BATCH: usize = 256;

/// What the user has been told.
#[derive(Clone, Debug)]
pub struct Notifications {
    raw: pb::notification_service_client::NotificationServiceClient<Transport>,
}

impl Notifications {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::notification_service_client::NotificationServiceClient::new(transport) }
    }

    /// All notifications, newest first.
    #[must_use]
    pub fn list(&self) -> BoxStream<'static, Result<pb::Notification>> {
        self.pages(false)
    }

    /// Those not read yet, newest first.
    #[must_use]
    pub fn unread(&self) -> BoxStream<'static, Result<pb::Notification>> {
        self.pages(true)
    }

    fn pages(&self, unread_only: bool) -> BoxStream<'static, Result<pb::Notification>> {
        let raw = self.raw.clone();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            async move {
                let request = pb::ListNotificationsRequest { page_size: PAGE, page_token, unread_only };
                let page = raw.list_notifications(request).await?.into_inner();
                Ok((page.notifications, page.next_page_token))
            }
        })
    }

    /// Marks notifications as read, any number; says how many were unread before. Idempotent.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an empty id.
    pub async fn mark_read(&self, ids: &[String]) -> Result<u32> {
        let mut marked = 0;
        for ids in ids.chunks(BATCH) {
            let request = pb::MarkNotificationsReadRequest { ids: ids.to_vec() };
            marked += self.raw.clone().mark_notifications_read(request).await?.into_inner().marked;
        }
        Ok(marked)
    }
}
