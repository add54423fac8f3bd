//! What can go wrong, and what a caller can do about it.

use std::time::Duration;

use weft_mesh::error::{Classify, ErrorKind, FieldViolation};

use crate::store::StoreError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong; nothing has been done.
    #[error("invalid request: {}", summary(.0))]
    Invalid(Vec<FieldViolation>),
    /// The store did not do what was asked; the caller repeats the call.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::Store(_) => ErrorKind::Unavailable,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Invalid(_) => "INVALID_FIELD",
            Self::Store(StoreError::Unreachable(_)) => "STORE_UNREACHABLE",
            Self::Store(StoreError::TimedOut) => "STORE_TIMED_OUT",
            Self::Store(StoreError::Refused(_)) => "STORE_REFUSED",
        }
    }

    fn fields(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(violations) => violations.clone(),
            Self::Store(_) => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Store(_)).then_some(Duration::from_secs(1))
    }
}

/// The first violation, and how many more there are.
fn summary(violations: &[FieldViolation]) -> String {
    let Some(first) = violations.first() else { return String::new() };
    match violations.len() - 1 {
        0 => format!("{} {}", first.field, first.description),
        more => format!("{} {} (and {more} more)", first.field, first.description),
    }
}
