//! UserService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, user_service_server::UserService};

use super::{Core, SIZES, in_order, page};
use crate::{
    error::Error,
    page::{Position, Scope, write},
    read_through::Key,
    repository::outbox::Entity,
    validate::Checks,
};

const SCOPE: Scope<'static> = Scope { list: "users", owner: "", filter: "" };
/// A display name has at most so many characters.
const NAME: usize = 200;

pub(crate) struct Users(pub(crate) Arc<Core>);

impl Users {
    async fn create(&self, request: pb::CreateUserRequest) -> Result<pb::CreateUserResponse, Error> {
        let pb::CreateUserRequest { id, display_name } = request;
        Checks::new().user("id", &id).chars("display_name", &display_name, NAME).finish()?;
        let created = self.0.repository.create_user(id, display_name).await?;
        Ok(pb::CreateUserResponse { user: Some(self.0.settle(created).await.into()) })
    }

    async fn get(&self, id: String) -> Result<pb::GetUserResponse, Error> {
        Checks::new().user("id", &id).finish()?;
        let key = Key::Entity(Entity::User, id.clone());
        let load = async { Ok(self.0.repository.user(&id).await?.map(pb::User::from)) };
        let user = self.0.cache.read(&key, load).await?;
        Ok(pb::GetUserResponse { user: Some(user.ok_or_else(|| Error::not_found("user", &id))?) })
    }

    async fn batch_get(&self, ids: Vec<String>) -> Result<pb::BatchGetUsersResponse, Error> {
        Checks::new().ids("ids", &ids).finish()?;
        let found = self.0.repository.users_by_id(&ids).await?;
        let users = in_order(&ids, &found, |user| &user.id);
        Ok(pb::BatchGetUsersResponse { users: users.into_iter().map(Into::into).collect() })
    }

    async fn list(&self, request: pb::ListUsersRequest) -> Result<pb::ListUsersResponse, Error> {
        let page = page(SCOPE, SIZES, request.page_size, &request.page_token, Position::lowest())?;
        let load = async {
            let page = self.0.repository.list_users(&page).await?;
            let next_page_token = write(SCOPE, page.next.as_ref());
            let users = page.rows.into_iter().map(Into::into).collect();
            Ok(Some(pb::ListUsersResponse { users, next_page_token }))
        };
        let listed = if page.is_default { self.0.cache.read(&Key::UserList, load).await } else { load.await };
        Ok(listed?.unwrap_or_default())
    }

    async fn update(&self, request: pb::UpdateUserRequest) -> Result<pb::UpdateUserResponse, Error> {
        let pb::UpdateUserRequest { id, display_name } = request;
        Checks::new().user("id", &id).chars("display_name", &display_name, NAME).finish()?;
        let renamed = self.0.repository.rename_user(id, display_name).await?;
        Ok(pb::UpdateUserResponse { user: Some(self.0.settle(renamed).await.into()) })
    }

    async fn delete(&self, id: String) -> Result<pb::DeleteUserResponse, Error> {
        Checks::new().user("id", &id).finish()?;
        let deleted = self.0.repository.delete_user(id).await?;
        self.0.settle(deleted).await;
        self.0.outbox.wake();
        Ok(pb::DeleteUserResponse {})
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::CreateUserResponse>, Status> {
        self.create(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        self.get(request.into_inner().id).await.map(Response::new).map_err(status)
    }

    async fn batch_get_users(
        &self,
        request: Request<pb::BatchGetUsersRequest>,
    ) -> Result<Response<pb::BatchGetUsersResponse>, Status> {
        self.batch_get(request.into_inner().ids).await.map(Response::new).map_err(status)
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        self.update(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        self.delete(request.into_inner().id).await.map(Response::new).map_err(status)
    }
}
