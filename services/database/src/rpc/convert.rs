//! Between the entities and their messages.

use prost_types::{Duration as ProtoDuration, Timestamp};
use weft_proto::database::v1 as pb;

use crate::entities::{
    Chat, Citation, Document, DocumentState, Hit, Message, Micros, Model, Notification, Role, User,
};

pub(super) fn timestamp(at: Micros) -> Timestamp {
    let nanos = i32::try_from(at.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Timestamp { seconds: at.0.div_euclid(1_000_000), nanos }
}

pub(super) fn duration(elapsed: std::time::Duration) -> ProtoDuration {
    ProtoDuration::try_from(elapsed).unwrap_or_default()
}

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        Self { id: user.id, display_name: user.display_name, created_at: Some(timestamp(user.created_at)) }
    }
}

impl From<Chat> for pb::Chat {
    fn from(chat: Chat) -> Self {
        Self {
            id: chat.id,
            title: chat.title,
            owner: chat.owner,
            model_id: chat.model_id,
            created_at: Some(timestamp(chat.created_at)),
            updated_at: Some(timestamp(chat.updated_at)),
            message_count: u64::try_from(chat.message_count).unwrap_or(0),
            last_message: chat.last_message,
        }
    }
}

impl From<Citation> for pb::Citation {
    fn from(citation: Citation) -> Self {
        let Citation { document_id, path, ordinal, text, score } = citation;
        Self { document_id, path, ordinal, text, score }
    }
}

impl From<pb::Citation> for Citation {
    fn from(citation: pb::Citation) -> Self {
        let pb::Citation { document_id, path, ordinal, text, score } = citation;
        Self { document_id, path, ordinal, text, score }
    }
}

impl From<Message> for pb::Message {
    fn from(message: Message) -> Self {
        Self {
            id: message.id,
            chat_id: message.chat_id,
            role: match message.role {
                Role::User => pb::Role::User,
                Role::Assistant => pb::Role::Assistant,
            }
            .into(),
            content: message.content,
            created_at: Some(timestamp(message.created_at)),
            citations: message.citations.into_iter().map(Into::into).collect(),
            job_id: message.job_id,
        }
    }
}

impl From<Model> for pb::Model {
    fn from(model: Model) -> Self {
        Self {
            id: model.id,
            display_name: model.display_name,
            context_tokens: model.context_tokens,
            updated_at: Some(timestamp(model.updated_at)),
        }
    }
}

impl From<DocumentState> for pb::DocumentState {
    fn from(state: DocumentState) -> Self {
        match state {
            DocumentState::Pending => Self::Pending,
            DocumentState::Ready => Self::Ready,
            DocumentState::Failed => Self::Failed,
        }
    }
}

impl From<Document> for pb::Document {
    fn from(document: Document) -> Self {
        Self {
            id: document.id,
            path: document.path,
            owner: document.owner,
            content_type: document.content_type,
            size_bytes: document.size_bytes,
            asset_id: document.asset_id,
            version: document.version,
            state: pb::DocumentState::from(document.state).into(),
            reason: document.reason,
            chunk_count: document.chunk_count,
            job_id: document.job_id,
            created_at: Some(timestamp(document.created_at)),
            updated_at: Some(timestamp(document.updated_at)),
        }
    }
}

impl From<Hit> for pb::SearchHit {
    fn from(hit: Hit) -> Self {
        let chunk = pb::Chunk {
            ordinal: hit.ordinal,
            text: hit.text,
            embedding: Default::default(),
            heading: hit.heading,
        };
        Self { document_id: hit.document_id, path: hit.path, chunk: Some(chunk), score: hit.score }
    }
}

impl From<Notification> for pb::Notification {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id,
            kind: notification.kind,
            text: notification.text,
            subject_id: notification.subject_id,
            created_at: Some(timestamp(notification.created_at)),
            read_at: notification.read_at.map(timestamp),
        }
    }
}
