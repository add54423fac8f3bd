//! Turns text into vectors: by the built-in hashed features, or by an OpenAI-compatible endpoint.

pub mod hashed;
pub mod openai;

use std::sync::Arc;

use openai::OpenAiEmbedder;

use crate::handler::Failure;

/// What makes embeddings. All chunks of a database must come from the same one.
#[derive(Debug, Clone)]
pub enum Embedder {
    /// Deterministic, local, without a model.
    Hashed,
    /// A model behind `POST /v1/embeddings`.
    OpenAi(Arc<OpenAiEmbedder>),
}

impl Embedder {
    /// Embeds texts, in order. Every vector has length 1, or is all zero where the text has no words.
    ///
    /// # Errors
    /// When the endpoint fails; never for hashed features.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, Failure> {
        match self {
            Embedder::Hashed => {
                let embed = move || texts.iter().map(|text| hashed::embed(text)).collect();
                // Milliseconds of arithmetic for a long document: not on a thread that serves others.
                tokio::task::spawn_blocking(embed).await.map_err(|error| Failure::retry(error.to_string()))
            }
            Embedder::OpenAi(endpoint) => endpoint.embed(&texts).await,
        }
    }
}

/// A vector as the database takes it: little-endian float32.
#[must_use]
pub fn encode(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Scales a vector to length 1; one of length 0 stays.
pub fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}
