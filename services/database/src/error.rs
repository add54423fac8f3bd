//! Everything that can go wrong in this service.

use std::time::Duration;

use weft_mesh::error::{CallError, Classify, ErrorKind, FieldViolation};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request names something that is not there, or not the caller's.
    #[error("there is no {what} {id}")]
    NotFound {
        /// `chat`, `document`, …
        what: &'static str,
        /// As the request names it.
        id: String,
    },
    /// What the request would create is there already.
    #[error("there is a {what} {id} already")]
    AlreadyExists {
        /// `user`, …
        what: &'static str,
        /// As the request names it.
        id: String,
    },
    /// Fields of the request are wrong.
    #[error("{}", describe(.0))]
    Invalid(Vec<FieldViolation>),
    /// A worker's result is about bytes that have been replaced.
    #[error("document {id} has version {current} by now, not {version}")]
    Superseded {
        /// The document.
        id: String,
        /// The version the result is of.
        version: u64,
        /// The version the document has.
        current: u64,
    },
    /// The database server cannot be reached, or is not ready.
    #[error("{server}: {reason}")]
    Unavailable {
        /// `postgres` or `sqlite`.
        server: &'static str,
        /// What it, or the way to it, says.
        reason: String,
    },
    /// No connection became free within the acquire timeout.
    #[error("all database connections are in use")]
    PoolExhausted,
    /// The caller's time was over.
    #[error("deadline exceeded in the database")]
    DeadlineExceeded,
    /// Uploads in progress hold as much memory as they may.
    #[error("too many uploads in progress")]
    Overloaded,
    /// Another service failed.
    #[error("{service} failed")]
    Remote {
        /// `cache` or `queue`.
        service: &'static str,
        /// What it says.
        #[source]
        source: CallError,
    },
    /// The caller stopped sending in the middle of a stream.
    #[error("the stream broke off")]
    BrokenStream(#[source] CallError),
    /// A defect, or a broken database.
    #[error("{context}")]
    Internal {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    /// One wrong field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation::new(field, description)])
    }

    /// Something of the caller's that is not there.
    #[must_use]
    pub fn not_found(what: &'static str, id: &str) -> Self {
        Self::NotFound { what, id: id.to_owned() }
    }

    /// A defect.
    #[must_use]
    pub fn internal(context: impl Into<String>) -> Self {
        Self::Internal { context: context.into(), source: None }
    }

    /// A defect with its cause.
    #[must_use]
    pub fn caused(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { context: context.into(), source: Some(source.into()) }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Superseded { .. } => ErrorKind::FailedPrecondition,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::PoolExhausted | Self::Overloaded => ErrorKind::ResourceExhausted,
            Self::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Self::Remote { source, .. } | Self::BrokenStream(source) => source.kind,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::NotFound { .. } => "NOT_FOUND",
            Self::AlreadyExists { .. } => "ALREADY_EXISTS",
            Self::Invalid(_) => "INVALID_FIELD",
            Self::Superseded { .. } => "DOCUMENT_SUPERSEDED",
            Self::Unavailable { .. } => "DATABASE_UNAVAILABLE",
            Self::PoolExhausted => "POOL_EXHAUSTED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Overloaded => "OVERLOADED",
            Self::Remote { .. } => "REMOTE_FAILED",
            Self::BrokenStream(_) => "STREAM_BROKEN",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    fn fields(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(fields) => fields.clone(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { .. } | Self::PoolExhausted | Self::Overloaded => {
                Some(Duration::from_millis(500))
            }
            _ => None,
        }
    }
}

fn describe(fields: &[FieldViolation]) -> String {
    let each: Vec<_> = fields.iter().map(|field| format!("{}: {}", field.field, field.description)).collect();
    each.join("; ")
}
