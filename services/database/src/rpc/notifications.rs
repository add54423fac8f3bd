//! NotificationService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, notification_service_server::NotificationService};

use super::{Core, SMALL_SIZES, caller, page};
use crate::{
    error::Error,
    page::{Position, Scope, write},
    validate::Checks,
};

pub(crate) struct Notifications(pub(crate) Arc<Core>);

impl Notifications {
    async fn create(
        &self,
        request: pb::CreateNotificationRequest,
    ) -> Result<pb::CreateNotificationResponse, Error> {
        let pb::CreateNotificationRequest { job_id, kind, text, subject_id } = request;
        Checks::new()
            .id("job_id", &job_id, 128)
            .bytes("kind", &kind, 1..=64)
            .chars("text", &text, 2000)
            .bytes("subject_id", &subject_id, 0..=128)
            .finish()?;
        let created =
            self.0.repository.create_notification(&caller(), job_id, kind, subject_id, text).await?;
        let notification = self.0.settle(created).await;
        Ok(pb::CreateNotificationResponse { notification: Some(notification.into()) })
    }

    async fn list(
        &self,
        request: pb::ListNotificationsRequest,
    ) -> Result<pb::ListNotificationsResponse, Error> {
        let owner = caller();
        let filter = if request.unread_only { "unread" } else { "" };
        let scope = Scope { list: "notifications", owner: &owner, filter };
        let page = page(scope, SMALL_SIZES, request.page_size, &request.page_token, Position::highest())?;
        let page = self.0.repository.list_notifications(&owner, request.unread_only, &page).await?;
        let next_page_token = write(scope, page.next.as_ref());
        let notifications = page.rows.into_iter().map(Into::into).collect();
        Ok(pb::ListNotificationsResponse { notifications, next_page_token })
    }

    async fn mark_read(&self, ids: Vec<String>) -> Result<pb::MarkNotificationsReadResponse, Error> {
        Checks::new().ids("ids", &ids).finish()?;
        let marked = self.0.repository.mark_notifications_read(&caller(), ids).await?;
        Ok(pb::MarkNotificationsReadResponse { marked: u32::try_from(marked).unwrap_or(u32::MAX) })
    }
}

#[tonic::async_trait]
impl NotificationService for Notifications {
    async fn create_notification(
        &self,
        request: Request<pb::CreateNotificationRequest>,
    ) -> Result<Response<pb::CreateNotificationResponse>, Status> {
        self.create(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn list_notifications(
        &self,
        request: Request<pb::ListNotificationsRequest>,
    ) -> Result<Response<pb::ListNotificationsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn mark_notifications_read(
        &self,
        request: Request<pb::MarkNotificationsReadRequest>,
    ) -> Result<Response<pb::MarkNotificationsReadResponse>, Status> {
        self.mark_read(request.into_inner().ids).await.map(Response::new).map_err(status)
    }
}
