//! What can go wrong for a caller of the mesh.

use std::{io, path::PathBuf};

use tonic::{Code, Status};
use weft_mesh::error::{CallError, ErrorKind};

/// The outcome of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, as the calling side sees it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the mesh is not one.
    #[error("`{address}` is not an address: {problem}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody listens at the address of the mesh.
    #[error("nothing answers at {address}")]
    Unreachable {
        /// As given.
        address: String,
        /// What the network says.
        #[source]
        source: io::Error,
    },
    /// The user's name cannot travel.
    #[error("`{user}` is no user name: it must be 1 to 128 bytes of printable ASCII without spaces")]
    User {
        /// As given.
        user: String,
    },
    /// What is shown to the gateway cannot travel.
    #[error("the API key or token is none: it has characters that no header has")]
    Token,
    /// The mesh answered with an error, or broke off.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A job did not end in the time that the caller gave it.
    #[error("job {job} has not ended in time")]
    WatchDeadline {
        /// The job.
        job: String,
        /// Why its events could not be followed, when they could not.
        #[source]
        last: Option<Box<Error>>,
    },
    /// A file to upload cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// An answer without a part that its contract promises.
    #[error("the answer lacks `{field}`")]
    Malformed {
        /// What is missing.
        field: &'static str,
    },
}

impl Error {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } | Self::User { .. } | Self::Token => ErrorKind::InvalidArgument,
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Call(call) => call.kind,
            Self::WatchDeadline { .. } => ErrorKind::DeadlineExceeded,
            Self::File { .. } => ErrorKind::FailedPrecondition,
            Self::Malformed { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the same call, if it is idempotent, may succeed a moment later: something is restarting, overloaded or
    /// broke off. A status without a reason of ours is a transport's and counts as broken off.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Call(call) => call.kind.retryable() || is_broken_off(call),
            _ => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Call(status.into())
    }
}

/// Whether the call ended because its connection or stream broke: our services name a reason, a transport does not.
pub(crate) fn is_broken_off(call: &CallError) -> bool {
    matches!(call.code, Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted)
        && call.reason == format!("{:?}", call.code)
}

/// A part of an answer that its contract promises.
pub(crate) fn present<T>(part: Option<T>, field: &'static str) -> Result<T> {
    part.ok_or(Error::Malformed { field })
}
