//! Passages of the user's documents.

use weft_proto::database::v1 as pb;

use crate::{Result, Transport};

/// Finds passages in the user's READY documents.
#[derive(Clone, Debug)]
pub struct Search {
    raw: pb::search_service_client::SearchServiceClient<Transport>,
}

impl Search {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::search_service_client::SearchServiceClient::new(transport) }
    }

    /// The best passages for a text, best first. `limit` is 1 to 100; 0 means 10.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an empty or too long text, or a limit out of range.
    pub async fn text(&self, text: &str, limit: i32) -> Result<Vec<pb::SearchHit>> {
        let request = pb::SearchChunksRequest { text: text.to_owned(), limit, ..Default::default() };
        Ok(self.raw.clone().search_chunks(request).await?.into_inner().hits)
    }
}
