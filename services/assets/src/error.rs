//! The errors of the service, and what each means to a caller.

use std::time::Duration;

use weft_mesh::error::{Classify, ErrorKind, FieldViolation};

use crate::{optimize::PoolError, storage::StorageError};

/// What a call can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller sent something wrong.
    #[error("{field}: {problem}")]
    Invalid {
        /// Field of the request, as in the contract.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The caller has no such asset.
    #[error("no asset {id}")]
    NotFound {
        /// As asked for.
        id: String,
    },
    /// A URL was asked for of an asset that has none.
    #[error("asset {id} is private and has no URL")]
    Private {
        /// The asset.
        id: String,
    },
    /// The upload ended before its end.
    #[error("the upload broke off")]
    BrokenOff,
    /// The upload sent nothing for too long.
    #[error("the upload sent nothing for {} s", limit.as_secs_f64())]
    Idle {
        /// How long it might have.
        limit: Duration,
    },
    /// Too many optimizations wait already.
    #[error("{waiting} optimizations wait already; try again in {} s", retry_after.as_secs())]
    Busy {
        /// How many.
        waiting: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The service is ending.
    #[error("the service is stopping")]
    Stopping,
    /// The store did not do it.
    #[error("{}", if .0.is_unavailable() { "the asset store cannot be reached" } else { "the asset store failed" })]
    Storage(#[source] StorageError),
    /// Something stored is not as it was written.
    #[error("stored data is damaged: {what}")]
    Damaged {
        /// What.
        what: String,
    },
    /// The disk where uploads are spooled failed.
    #[error("an upload could not be spooled")]
    Spool(#[source] std::io::Error),
}

impl Error {
    /// A wrong field.
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }
}

impl From<StorageError> for Error {
    fn from(source: StorageError) -> Self {
        Self::Storage(source)
    }
}

impl From<PoolError> for Error {
    fn from(e: PoolError) -> Self {
        match e {
            PoolError::Busy { waiting, retry_after } => Self::Busy { waiting, retry_after },
            PoolError::Stopping => Self::Stopping,
            PoolError::Panicked => Self::Damaged { what: "a check of the bytes crashed".into() },
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::BrokenOff => ErrorKind::InvalidArgument,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Private { .. } => ErrorKind::FailedPrecondition,
            Self::Idle { .. } => ErrorKind::DeadlineExceeded,
            Self::Busy { .. } => ErrorKind::ResourceExhausted,
            Self::Stopping => ErrorKind::Unavailable,
            Self::Storage(e) if e.is_unavailable() => ErrorKind::Unavailable,
            Self::Storage(_) | Self::Damaged { .. } | Self::Spool(_) => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::NotFound { .. } => "ASSET_NOT_FOUND",
            Self::Private { .. } => "ASSET_PRIVATE",
            Self::BrokenOff => "UPLOAD_BROKEN_OFF",
            Self::Idle { .. } => "UPLOAD_IDLE",
            Self::Busy { .. } => "OPTIMIZER_BUSY",
            Self::Stopping => "STOPPING",
            Self::Storage(e) if e.is_unavailable() => "STORE_UNAVAILABLE",
            Self::Storage(_) => "STORE_FAILED",
            Self::Damaged { .. } => "ASSET_DAMAGED",
            Self::Spool(_) => "SPOOL_FAILED",
        }
    }

    fn fields(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid { field, problem } => vec![FieldViolation::new(*field, problem)],
            Self::BrokenOff => vec![FieldViolation::new("data", "the upload broke off")],
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => Some(*retry_after),
            Self::Stopping => Some(Duration::from_secs(1)),
            Self::Storage(e) if e.is_unavailable() => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
