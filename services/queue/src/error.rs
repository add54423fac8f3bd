//! Everything that can go wrong in the queue service, and of which kind it is.

use std::{sync::Arc, time::Duration};

use weft_mesh::error::{Classify, ErrorKind, FieldViolation};

/// An error of the queue service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such queue.
    #[error("unknown queue \"{name}\": it must be one of chat_queue, document_queue and notification_queue")]
    InvalidQueue {
        /// What was asked for.
        name: String,
    },
    /// A request field is unusable.
    #[error("{field}: {problem}")]
    InvalidField {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No such job, or not this caller's.
    #[error("no job {id}")]
    NotFound {
        /// What was asked for.
        id: String,
    },
    /// The id belongs to another user's job.
    #[error("the job id {id} is taken")]
    IdTaken {
        /// The id.
        id: String,
    },
    /// The job has ended and takes no more.
    #[error("the job {id} has ended already")]
    Ended {
        /// The job.
        id: String,
    },
    /// The job store cannot be reached, or is overloaded.
    #[error("the job store does not answer")]
    StoreUnavailable {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The job store refused what it should not have.
    #[error("the job store failed")]
    Store {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The job store holds what it should not.
    #[error("the job store holds an unreadable {what}")]
    Corrupt {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker cannot be reached, or did not confirm in time.
    #[error("the broker does not answer")]
    Broker {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service is stopping.
    #[error("the queue service is stopping")]
    Stopping,
    /// What befell a whole batch, told to each of it.
    #[error("{0}")]
    Shared(#[source] Arc<Error>),
}

impl Error {
    /// The same error for one more.
    #[must_use]
    pub fn shared(error: &Arc<Error>) -> Error {
        Error::Shared(Arc::clone(error))
    }

    /// A field of a request is unusable.
    pub fn field(field: &'static str, problem: impl Into<String>) -> Error {
        Error::InvalidField { field, problem: problem.into() }
    }

    /// The store holds what cannot be read.
    pub fn corrupt(what: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Corrupt { what, source: source.into() }
    }

    /// The broker failed.
    pub fn broker(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Broker { source: source.into() }
    }

    /// The store does not answer.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::StoreUnavailable { source: source.into() }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::InvalidQueue { .. } | Error::InvalidField { .. } => ErrorKind::InvalidArgument,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::IdTaken { .. } => ErrorKind::AlreadyExists,
            Error::Ended { .. } => ErrorKind::FailedPrecondition,
            Error::StoreUnavailable { .. } | Error::Broker { .. } | Error::Stopping => ErrorKind::Unavailable,
            Error::Store { .. } | Error::Corrupt { .. } => ErrorKind::Internal,
            Error::Shared(error) => error.kind(),
        }
    }

    fn reason(&self) -> &str {
        match self {
            Error::InvalidQueue { .. } => "INVALID_QUEUE",
            Error::InvalidField { .. } => "INVALID_FIELD",
            Error::NotFound { .. } => "JOB_NOT_FOUND",
            Error::IdTaken { .. } => "JOB_ID_TAKEN",
            Error::Ended { .. } => "JOB_ENDED",
            Error::StoreUnavailable { .. } => "JOB_STORE_UNAVAILABLE",
            Error::Store { .. } => "JOB_STORE_FAILED",
            Error::Corrupt { .. } => "JOB_STORE_CORRUPT",
            Error::Broker { .. } => "BROKER_UNAVAILABLE",
            Error::Stopping => "STOPPING",
            Error::Shared(error) => error.reason(),
        }
    }

    fn fields(&self) -> Vec<FieldViolation> {
        match self {
            Error::InvalidQueue { .. } => vec![FieldViolation::new("queue", self.to_string())],
            Error::InvalidField { field, problem } => vec![FieldViolation::new(*field, problem.clone())],
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self.kind(), ErrorKind::Unavailable).then_some(Duration::from_secs(1))
    }
}
