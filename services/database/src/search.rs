//! Search: candidates by words and by embedding, fused by their ranks.

mod fusion;
mod words;

use crate::{entities::Hit, error::Error, repository::Repository};

/// How many candidates of each kind are fused.
const CANDIDATES: usize = 50;

/// What is looked for. At least one of the two is there.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Words to find.
    pub text: String,
    /// An embedding to be near to.
    pub embedding: Option<Vec<f32>>,
    /// How many passages.
    pub limit: usize,
}

/// The owner's best passages, best first.
///
/// # Errors
/// When the embedding's dimension is not the database's, or the database fails.
pub async fn search(repository: &Repository, owner: &str, question: &Question) -> Result<Vec<Hit>, Error> {
    let words = words::words(&question.text);
    let ranked = match &question.embedding {
        None => repository.match_chunks(owner, &words, question.limit).await?,
        Some(embedding) if question.text.is_empty() => {
            repository.nearest_chunks(owner, embedding, question.limit).await?
        }
        Some(embedding) => {
            let candidates = CANDIDATES.max(question.limit);
            let by_word = repository.match_chunks(owner, &words, candidates).await?;
            let by_embedding = repository.nearest_chunks(owner, embedding, candidates).await?;
            fusion::fuse(&[by_word, by_embedding], question.limit)
        }
    };
    repository.passages(owner, &ranked).await
}
