//! Embeddings from an OpenAI-compatible endpoint: `POST /embeddings`, many texts at a time.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::normalise;
use crate::{
    config,
    handler::Failure,
    provider::http::{self as endpoint, Endpoint},
};

/// The most dimensions that the database takes.
const MAX_DIMENSIONS: usize = 4096;
/// The most bytes of an answer that one number takes: a float64 with all its digits, its separator and white space.
const MAX_NUMBER_BYTES: usize = 32;
/// The most bytes of an answer beside its numbers: names, usage, white space.
const MAX_OTHER_BYTES: usize = 64 << 10;

/// A model that makes embeddings.
#[derive(Debug)]
pub struct OpenAiEmbedder {
    endpoint: Endpoint,
    model: String,
    batch: usize,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Response {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl OpenAiEmbedder {
    /// The configured model; `None` when none is. What `embedding` does not say, `provider` does.
    #[must_use]
    pub fn new(config: &config::Embedding, provider: &config::Provider) -> Option<OpenAiEmbedder> {
        if config.model.is_empty() {
            return None;
        }
        let own = !config.base_url.is_empty();
        let base_url = if own { &config.base_url } else { &provider.base_url };
        // The provider's key is for the provider's address only.
        let api_key = if own || !config.api_key.is_empty() { &config.api_key } else { &provider.api_key };
        Some(OpenAiEmbedder {
            endpoint: Endpoint::new(base_url, api_key, provider.connect_timeout)?,
            model: config.model.clone(),
            batch: config.batch,
            timeout: config.timeout,
        })
    }

    /// Embeds texts, in order.
    ///
    /// # Errors
    /// What the endpoint said, or that it answered something else than embeddings.
    pub async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(self.batch.max(1)) {
            vectors.extend(self.embed_batch(batch).await?);
        }
        Ok(vectors)
    }

    async fn embed_batch(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Failure> {
        // Some endpoints refuse empty texts.
        let input: Vec<&str> =
            texts.iter().map(|text| if text.trim().is_empty() { "-" } else { text }).collect();
        let body = json!({ "model": self.model, "input": input, "encoding_format": "float" });
        let response = self.endpoint.post("embeddings", &body).timeout(self.timeout).send().await;
        let response = response.map_err(|error| endpoint::failed(&error))?;
        if response.status() != StatusCode::OK {
            return Err(endpoint::refused(response).await);
        }
        let most = texts.len() * MAX_DIMENSIONS * MAX_NUMBER_BYTES + MAX_OTHER_BYTES;
        let body = endpoint::read(response, most).await?;
        let malformed = |error: serde_json::Error| Failure::retry(format!("malformed embeddings: {error}"));
        let mut items = serde_json::from_slice::<Response>(&body).map_err(malformed)?.data;
        items.sort_by_key(|item| item.index);
        let complete =
            items.len() == texts.len() && items.iter().enumerate().all(|(i, item)| item.index == i);
        let length = items.first().map_or(1, |item| item.embedding.len());
        let even =
            (1..=MAX_DIMENSIONS).contains(&length) && items.iter().all(|i| i.embedding.len() == length);
        if !complete || !even {
            return Err(Failure::retry(
                "the embeddings endpoint answered with too few, or with uneven, vectors",
            ));
        }
        let mut vectors: Vec<Vec<f32>> = items.into_iter().map(|item| item.embedding).collect();
        vectors.iter_mut().for_each(|vector| normalise(vector));
        Ok(vectors)
    }
}
