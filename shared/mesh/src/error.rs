//! One closed vocabulary of failures, and its one mapping to gRPC and HTTP.
//!
//! A service's error enum says of itself what kind of failure it is ([`Classify`]); [`status`] turns it into what the
//! caller sees. Public text and internal detail stay apart: an internal error is logged with its chain, once, and the
//! caller learns only that there was one.

use std::{collections::HashMap, error::Error, time::Duration};

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use weft_balance::verdict::Timeout;

/// The domain in which reasons are unique.
pub const ERROR_DOMAIN: &str = "weft";

/// Everything that can go wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will always be.
    InvalidArgument,
    /// What the request names is not there, or not the caller's.
    NotFound,
    /// What the request would create is there already.
    AlreadyExists,
    /// The request is right, but not in the present state.
    FailedPrecondition,
    /// Nobody knows who is calling.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit is reached; later it may not be.
    ResourceExhausted,
    /// Something needed cannot be reached right now.
    Unavailable,
    /// The time the caller gave is over.
    DeadlineExceeded,
    /// A defect, or a broken backend.
    Internal,
}

impl ErrorKind {
    /// The gRPC code.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::InvalidArgument => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::FailedPrecondition => Code::FailedPrecondition,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::ResourceExhausted => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Internal => Code::Internal,
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::InvalidArgument => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::FailedPrecondition => StatusCode::CONFLICT,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self, Self::ResourceExhausted | Self::Unavailable | Self::DeadlineExceeded)
    }

    /// The kind a remote status belongs to. Codes outside the vocabulary are the remote's defects.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidArgument,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition | Code::Aborted => Self::FailedPrecondition,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Unavailable | Code::Cancelled => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            _ => Self::Internal,
        }
    }
}

/// One wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path: `key`, `entries[3].ttl`, …
    pub field: String,
    /// What is wrong, for people.
    pub description: String,
}

impl FieldViolation {
    /// Names a field and says what is wrong with it.
    #[must_use]
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// What an error says of itself when it leaves the process.
pub trait Classify: Error {
    /// What a caller can do about it.
    fn kind(&self) -> ErrorKind;

    /// A stable name for programs, in upper snake case: `INVALID_QUEUE`.
    fn reason(&self) -> &str;

    /// The fields that are wrong, for [`ErrorKind::InvalidArgument`].
    fn fields(&self) -> Vec<FieldViolation> {
        Vec::new()
    }

    /// When to try again, if that is known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Turns an error into what the caller sees, and logs it if an operator must know: this is where it is consumed.
#[allow(clippy::needless_pass_by_value)] // it is consumed: `map_err(status)`
pub fn status(error: impl Classify) -> Status {
    let kind = error.kind();
    let message = if kind == ErrorKind::Internal {
        tracing::error!(reason = error.reason(), error = %chain(&error), "internal error");
        "internal error".to_owned()
    } else {
        tracing::debug!(reason = error.reason(), error = %chain(&error), "call failed");
        error.to_string()
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason(), ERROR_DOMAIN, HashMap::new());
    for violation in error.fields() {
        details.add_bad_request_violation(violation.field, violation.description);
    }
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(kind.code(), message, details)
}

/// An error with all its sources, on one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A call that failed, as the calling side sees it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// The stable name given by the other side; the gRPC code's name when it gave none.
    pub reason: String,
    /// What the other side says, for people.
    pub message: String,
    /// The fields it refused.
    pub fields: Vec<FieldViolation>,
    /// When it asks to be tried again.
    pub retry_after: Option<Duration>,
    /// The gRPC code as received.
    pub code: Code,
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason =
            details.error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason.clone());
        let fields = details.bad_request().map_or_else(Vec::new, |bad| {
            let violations = bad.field_violations.iter();
            violations.map(|v| FieldViolation::new(v.field.clone(), v.description.clone())).collect()
        });
        Self {
            kind: ErrorKind::of(status.code()),
            reason,
            message: if status.message().is_empty() {
                format!("{:?}", status.code())
            } else {
                status.message().to_owned()
            },
            fields,
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            code: status.code(),
        }
    }
}

impl Classify for CallError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn fields(&self) -> Vec<FieldViolation> {
        self.fields.clone()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Failures of the mesh itself on the way to a service.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Every backend of the pool is unhealthy, drained or gone.
    #[error("no healthy backend in pool {pool}")]
    NoHealthyBackends {
        /// The pool's name.
        pool: String,
    },
    /// The connection broke, or could not be made, and the call could not go elsewhere.
    #[error("{pool}: {backend} failed")]
    Backend {
        /// The pool's name.
        pool: String,
        /// The backend's address.
        backend: String,
        /// What the transport says.
        #[source]
        source: crate::BoxError,
    },
    /// The deadline passed before the response began.
    #[error("deadline exceeded waiting for {pool}")]
    DeadlineExceeded {
        /// The pool's name.
        pool: String,
    },
    /// No backend answered with a first byte within the time of an attempt.
    #[error("{pool}: no answer began in time")]
    FirstByte {
        /// The pool's name.
        pool: String,
    },
    /// Neither side sent anything for too long.
    #[error("{pool}: nothing was sent for too long")]
    Idle {
        /// The pool's name.
        pool: String,
    },
    /// The stream has stayed with its backend for as long as it may.
    #[error("{pool}: the stream has been open for as long as it may; open it again")]
    StreamAge {
        /// The pool's name.
        pool: String,
    },
    /// Metadata of the call that cannot be understood.
    #[error("{field}: {problem}")]
    Metadata {
        /// The metadata key.
        field: &'static str,
        /// What is wrong with its value.
        problem: &'static str,
    },
    /// Nobody knows who calls.
    #[error("not authenticated: {problem}")]
    Unauthenticated {
        /// What is missing, or wrong with what was shown.
        problem: &'static str,
    },
    /// A signed identity that is not to be believed.
    #[error("weft-identity {problem}")]
    Identity {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The caller may not do this.
    #[error("not permitted: {problem}")]
    Denied {
        /// What the caller lacks.
        problem: &'static str,
    },
    /// A path that leads elsewhere than it seems to.
    #[error("the path has segments of dots, or leads elsewhere when its encoded slashes are decoded")]
    Path,
    /// A message that is not what its contract says.
    #[error("{problem}")]
    Unreadable {
        /// What is wrong with it.
        problem: String,
    },
    /// A host that is none, or more than one.
    #[error("the request names no host, or more than one")]
    Host,
    /// A transfer coding other than `chunked`.
    #[error("no transfer coding but `chunked` is taken")]
    Coding,
    /// A method that is not served here.
    #[error("the method is not served here")]
    Method,
    /// A request with more bytes than are taken.
    #[error("the request is larger than {limit} bytes")]
    TooLarge {
        /// The most that is taken.
        limit: u64,
    },
    /// More calls in flight than the configured limit.
    #[error("too many calls in flight")]
    Overloaded,
    /// More calls in a time than a limit allows.
    #[error("too many calls in this time")]
    RateLimited {
        /// When the next one may come.
        retry_after: Duration,
    },
    /// More calls of one caller in flight than it may have.
    #[error("too many calls of this caller in flight")]
    TooManyOfCaller,
    /// The connection that the call came on is drained, or too old, and the time for its calls is over.
    #[error("the time of this connection is over")]
    ConnectionEnded,
}

impl MeshError {
    /// A call to a pool that ran out of time.
    #[must_use]
    pub fn late(pool: &str, timeout: Timeout) -> Self {
        let pool = pool.to_owned();
        match timeout {
            Timeout::FirstByte => Self::FirstByte { pool },
            Timeout::StreamIdle => Self::Idle { pool },
            Timeout::StreamAge => Self::StreamAge { pool },
            _ => Self::DeadlineExceeded { pool },
        }
    }
}

impl Classify for MeshError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoHealthyBackends { .. }
            | Self::Backend { .. }
            | Self::FirstByte { .. }
            | Self::Idle { .. }
            | Self::StreamAge { .. }
            | Self::ConnectionEnded => ErrorKind::Unavailable,
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Self::Unauthenticated { .. } | Self::Identity { .. } => ErrorKind::Unauthenticated,
            Self::Denied { .. } => ErrorKind::PermissionDenied,
            Self::Metadata { .. }
            | Self::Path
            | Self::Unreadable { .. }
            | Self::Host
            | Self::Coding
            | Self::Method => ErrorKind::InvalidArgument,
            Self::TooLarge { .. } | Self::Overloaded | Self::RateLimited { .. } | Self::TooManyOfCaller => {
                ErrorKind::ResourceExhausted
            }
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::NoHealthyBackends { .. } => "NO_HEALTHY_BACKENDS",
            Self::Backend { .. } => "BACKEND_FAILED",
            Self::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            Self::FirstByte { .. } => "FIRST_BYTE_TIMEOUT",
            Self::Idle { .. } => "IDLE",
            Self::StreamAge { .. } => "STREAM_AGE",
            Self::Metadata { .. } => "INVALID_METADATA",
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::Identity { .. } => "INVALID_IDENTITY",
            Self::Denied { .. } => "PERMISSION_DENIED",
            Self::Path => "INVALID_PATH",
            Self::Unreadable { .. } => "UNREADABLE_MESSAGE",
            Self::Host => "INVALID_HOST",
            Self::Coding => "UNSUPPORTED_CODING",
            Self::Method => "METHOD_NOT_ALLOWED",
            Self::TooLarge { .. } => "REQUEST_TOO_LARGE",
            Self::Overloaded => "OVERLOADED",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::TooManyOfCaller => "CONCURRENCY_LIMITED",
            Self::ConnectionEnded => "CONNECTION_ENDED",
        }
    }

    fn fields(&self) -> Vec<FieldViolation> {
        match self {
            Self::Metadata { field, problem } => vec![FieldViolation::new(*field, *problem)],
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded | Self::TooManyOfCaller | Self::NoHealthyBackends { .. } => {
                Some(Duration::from_secs(1))
            }
            Self::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_keeps_reason_fields_and_retry_hint_over_the_wire() {
        let sent = status(MeshError::Metadata { field: "grpc-timeout", problem: "is not a timeout" });
        let received = CallError::from(Status::from_header_map(&headers(sent)).unwrap());
        assert_eq!(received.kind, ErrorKind::InvalidArgument);
        assert_eq!(received.reason, "INVALID_METADATA");
        assert_eq!(received.fields, [FieldViolation::new("grpc-timeout", "is not a timeout")]);

        let received = CallError::from(status(MeshError::Overloaded));
        assert_eq!(received.retry_after, Some(Duration::from_secs(1)));
        assert!(received.kind.retryable());
    }

    #[test]
    fn an_internal_error_does_not_leak() {
        #[derive(Debug, thiserror::Error)]
        #[error("password is hunter2")]
        struct Broken;
        impl Classify for Broken {
            fn kind(&self) -> ErrorKind {
                ErrorKind::Internal
            }
            fn reason(&self) -> &str {
                "BROKEN"
            }
        }
        assert_eq!(status(Broken).message(), "internal error");
    }

    #[test]
    fn every_kind_survives_the_round_trip_through_its_code() {
        use ErrorKind::*;
        for kind in [
            InvalidArgument,
            NotFound,
            AlreadyExists,
            FailedPrecondition,
            Unauthenticated,
            PermissionDenied,
            ResourceExhausted,
            Unavailable,
            DeadlineExceeded,
            Internal,
        ] {
            assert_eq!(ErrorKind::of(kind.code()), kind);
        }
    }

    fn headers(status: Status) -> http::HeaderMap {
        let (parts, ()) = status.into_http::<()>().into_parts();
        parts.headers
    }
}
