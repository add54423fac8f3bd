//! Tells a user something: a row in the database, once per job.

use weft_mesh::{Channel, error::CallError};
use weft_proto::{
    database::v1::{CreateNotificationRequest, notification_service_client::NotificationServiceClient},
    queue::v1::DeliverNotification,
};

use super::Failure;
use crate::job::Job;

/// Handles `weft.queue.v1.DeliverNotification`.
pub struct NotificationHandler {
    notifications: NotificationServiceClient<Channel>,
}

impl NotificationHandler {
    /// Stores notifications in the database service.
    #[must_use]
    pub fn new(database: Channel) -> NotificationHandler {
        NotificationHandler { notifications: NotificationServiceClient::new(database) }
    }

    /// Runs one attempt. The database stores one notification per job, however often it is asked.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn run(&self, job: &Job, payload: DeliverNotification) -> Result<(), Failure> {
        let request = CreateNotificationRequest {
            job_id: job.id.to_string(),
            kind: payload.kind,
            text: payload.text,
            subject_id: payload.subject_id,
        };
        let stored = self.notifications.clone().create_notification(request).await;
        stored.map(drop).map_err(|status| Failure::call("storing the notification", &CallError::from(status)))
    }
}
