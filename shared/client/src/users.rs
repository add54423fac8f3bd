//! All users; for operators.

use futures::stream::BoxStream;
use weft_proto::database::v1 as pb;

use crate::{Result, Transport, error::present, pages};

/// Pages as large as they may be: fewer round trips.
const PAGE: i32 = 1000;

/// All users; for operators.
#[derive(Clone, Debug)]
pub struct Users {
    raw: pb::user_service_client::UserServiceClient<Transport>,
}

impl Users {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::user_service_client::UserServiceClient::new(transport) }
    }

    /// Creates a user.
    ///
    /// # Errors
    /// ALREADY_EXISTS, and INVALID_ARGUMENT for a malformed name.
    pub async fn create(&self, id: &str, display_name: &str) -> Result<pb::User> {
        let request = pb::CreateUserRequest { id: id.to_owned(), display_name: display_name.to_owned() };
        present(self.raw.clone().create_user(request).await?.into_inner().user, "user")
    }

    /// One user.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn get(&self, id: &str) -> Result<pb::User> {
        let answer = self.raw.clone().get_user(pb::GetUserRequest { id: id.to_owned() }).await?;
        present(answer.into_inner().user, "user")
    }

    /// All users by id.
    #[must_use]
    pub fn list(&self) -> BoxStream<'static, Result<pb::User>> {
        let raw = self.raw.clone();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            async move {
                let page =
                    raw.list_users(pb::ListUsersRequest { page_size: PAGE, page_token }).await?.into_inner();
                Ok((page.users, page.next_page_token))
            }
        })
    }

    /// Deletes a user with all that is theirs. Idempotent.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.raw.clone().delete_user(pb::DeleteUserRequest { id: id.to_owned() }).await?;
        Ok(())
    }
}
