//! What the database holds, free of transport and of backend types.

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// Some time later.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago that was; zero for the future.
    #[must_use]
    pub fn age(self, now: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name under which the user calls.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// When the record was made.
    pub created_at: Micros,
}

/// A chat without its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// `UUIDv7`.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// Empty means the configured default.
    pub model_id: String,
    /// When it was created.
    pub created_at: Micros,
    /// When its last message came, or its title changed.
    pub updated_at: Micros,
    /// How many messages it has.
    pub message_count: i64,
    /// For people.
    pub title: String,
    /// The beginning of the last message.
    pub last_message: String,
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user.
    User,
    /// The model, or the retrieval responder.
    Assistant,
}

impl Role {
    /// As stored.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::User => 1,
            Self::Assistant => 2,
        }
    }
}

/// A passage that an answer quotes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// The document.
    pub document_id: String,
    /// Its path.
    pub path: String,
    /// The chunk's ordinal in it.
    pub ordinal: u32,
    /// The passage.
    pub text: String,
    /// Relevance; larger is better.
    pub score: f32,
}

/// A message of a chat.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `UUIDv7`.
    pub id: String,
    /// The chat.
    pub chat_id: String,
    /// Its place in the chat, from 1.
    pub sequence: i64,
    /// Who wrote it.
    pub role: Role,
    /// When it was stored.
    pub created_at: Micros,
    /// The job that answers it, or wrote it.
    pub job_id: String,
    /// Passages it quotes.
    pub citations: Vec<Citation>,
    /// The text.
    pub content: String,
}

/// A model that answers chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The name the provider knows it by.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// The most tokens it takes; 0 when unknown.
    pub context_tokens: u32,
    /// When it was last put.
    pub updated_at: Micros,
}

/// Where a document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentState {
    /// Its job has not ended yet.
    Pending,
    /// Its chunks are searchable.
    Ready,
    /// Could not be ingested.
    Failed,
}

impl DocumentState {
    /// As stored.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Pending => 1,
            Self::Ready => 2,
            Self::Failed => 3,
        }
    }
}

/// A document: bytes at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `UUIDv7`.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// As given by the owner.
    pub path: String,
    /// Media type.
    pub content_type: String,
    /// Size of the bytes.
    pub size_bytes: u64,
    /// The asset that holds the bytes.
    pub asset_id: String,
    /// Grows by 1 with each change of the bytes.
    pub version: u64,
    /// Where it stands.
    pub state: DocumentState,
    /// How many chunks are searchable.
    pub chunk_count: u32,
    /// The upload whose chunks are searchable; 0 when none.
    pub generation: i64,
    /// The job of this version.
    pub job_id: String,
    /// When it was first put.
    pub created_at: Micros,
    /// When its state last changed.
    pub updated_at: Micros,
    /// Why it failed.
    pub reason: String,
}

/// A searchable piece of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// From 0, without gaps.
    pub ordinal: u32,
    /// The heading it stands under; empty when none.
    pub heading: String,
    /// The text.
    pub text: String,
    /// L2-normalised.
    pub embedding: Vec<f32>,
}

/// A passage found by a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The document.
    pub document_id: String,
    /// Its path.
    pub path: String,
    /// The chunk's ordinal in it.
    pub ordinal: u32,
    /// The heading it stands under.
    pub heading: String,
    /// The passage.
    pub text: String,
    /// Relevance; larger is better.
    pub score: f32,
}

/// Something a user has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// `UUIDv7`.
    pub id: String,
    /// `document.ready`, `document.failed`, `chat.replied`.
    pub kind: String,
    /// The document or chat it is about.
    pub subject_id: String,
    /// When it was stored.
    pub created_at: Micros,
    /// When it was read.
    pub read_at: Option<Micros>,
    /// For people.
    pub text: String,
}
