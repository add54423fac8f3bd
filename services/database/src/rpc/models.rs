//! ModelService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, model_service_server::ModelService};

use super::{Core, SIZES, page};
use crate::{
    entities::{Micros, Model},
    error::Error,
    page::{Position, Scope, write},
    read_through::Key,
    repository::outbox::Entity,
    validate::Checks,
};

const SCOPE: Scope<'static> = Scope { list: "models", owner: "", filter: "" };
/// An id has at most so many bytes, and a display name so many characters.
const ID: usize = 256;
const NAME: usize = 200;

pub(crate) struct Models(pub(crate) Arc<Core>);

impl Models {
    async fn put(&self, request: pb::PutModelRequest) -> Result<pb::PutModelResponse, Error> {
        let model = request.model.ok_or_else(|| Error::invalid("model", "must be set"))?;
        Checks::new()
            .id("model.id", &model.id, ID)
            .chars("model.display_name", &model.display_name, NAME)
            .finish()?;
        let pb::Model { id, display_name, context_tokens, .. } = model;
        let model = Model { id, display_name, context_tokens, updated_at: Micros::default() };
        let put = self.0.repository.put_model(model).await?;
        Ok(pb::PutModelResponse { model: Some(self.0.settle(put).await.into()) })
    }

    async fn get(&self, id: String) -> Result<pb::GetModelResponse, Error> {
        Checks::new().id("id", &id, ID).finish()?;
        let key = Key::Entity(Entity::Model, id.clone());
        let load = async { Ok(self.0.repository.model(&id).await?.map(pb::Model::from)) };
        let model = self.0.cache.read(&key, load).await?;
        Ok(pb::GetModelResponse { model: Some(model.ok_or_else(|| Error::not_found("model", &id))?) })
    }

    async fn list(&self, request: pb::ListModelsRequest) -> Result<pb::ListModelsResponse, Error> {
        let page = page(SCOPE, SIZES, request.page_size, &request.page_token, Position::lowest())?;
        let load = async {
            let page = self.0.repository.list_models(&page).await?;
            let next_page_token = write(SCOPE, page.next.as_ref());
            let models = page.rows.into_iter().map(Into::into).collect();
            Ok(Some(pb::ListModelsResponse { models, next_page_token }))
        };
        let listed =
            if page.is_default { self.0.cache.read(&Key::ModelList, load).await } else { load.await };
        Ok(listed?.unwrap_or_default())
    }

    async fn delete(&self, id: String) -> Result<pb::DeleteModelResponse, Error> {
        Checks::new().id("id", &id, ID).finish()?;
        let deleted = self.0.repository.delete_model(id).await?;
        self.0.settle(deleted).await;
        Ok(pb::DeleteModelResponse {})
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn put_model(
        &self,
        request: Request<pb::PutModelRequest>,
    ) -> Result<Response<pb::PutModelResponse>, Status> {
        self.put(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_model(
        &self,
        request: Request<pb::GetModelRequest>,
    ) -> Result<Response<pb::GetModelResponse>, Status> {
        self.get(request.into_inner().id).await.map(Response::new).map_err(status)
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        self.list(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_model(
        &self,
        request: Request<pb::DeleteModelRequest>,
    ) -> Result<Response<pb::DeleteModelResponse>, Status> {
        self.delete(request.into_inner().id).await.map(Response::new).map_err(status)
    }
}
