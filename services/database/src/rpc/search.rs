//! SearchService.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, search_service_server::SearchService};

use super::{Core, caller};
use crate::{
    error::Error,
    search::{Question, search},
    validate::{self, Checks},
};

/// A question has at most so many bytes.
const TEXT: usize = 8 * 1024;
/// Passages at most, and when the caller does not say.
const LIMITS: (i32, usize) = (100, 10);

pub(crate) struct Search(pub(crate) Arc<Core>);

impl Search {
    async fn find(&self, request: pb::SearchChunksRequest) -> Result<pb::SearchChunksResponse, Error> {
        let (most, default) = LIMITS;
        let pb::SearchChunksRequest { text, embedding, limit } = request;
        Checks::new()
            .bytes("text", &text, 0..=TEXT)
            .require(!text.is_empty() || !embedding.is_empty(), "text", "must be set when embedding is not")
            .require((0..=most).contains(&limit), "limit", format!("must be 0 to {most}, is {limit}"))
            .finish()?;
        let embedding =
            if embedding.is_empty() { None } else { Some(validate::embedding("embedding", &embedding)?) };
        let limit = if limit == 0 { default } else { usize::try_from(limit).unwrap_or(default) };
        let hits = search(&self.0.repository, &caller(), &Question { text, embedding, limit }).await?;
        Ok(pb::SearchChunksResponse { hits: hits.into_iter().map(Into::into).collect() })
    }
}

#[tonic::async_trait]
impl SearchService for Search {
    async fn search_chunks(
        &self,
        request: Request<pb::SearchChunksRequest>,
    ) -> Result<Response<pb::SearchChunksResponse>, Status> {
        self.find(request.into_inner()).await.map(Response::new).map_err(status)
    }
}
