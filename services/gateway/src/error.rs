//! What the gateway refuses by itself.

use weft_balance::ChangeError;
use weft_mesh::error::{Classify, ErrorKind, FieldViolation};

/// Why an administrative call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No pool has that name.
    #[error("there is no pool \"{0}\"")]
    UnknownPool(String),
    /// The address is not `host:port` with a literal IP address.
    #[error("address: \"{0}\" is not an IP address and port")]
    Address(String),
    /// There is nothing to reload.
    #[error("the gateway was started without a configuration file")]
    NoConfigFile,
    /// The pool's backends cannot be changed so.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownPool(_) | Self::Change(ChangeError::Unknown(_)) => ErrorKind::NotFound,
            Self::Address(_) | Self::Change(ChangeError::Weight(_)) => ErrorKind::InvalidArgument,
            Self::NoConfigFile => ErrorKind::FailedPrecondition,
            Self::Change(ChangeError::Exists(_)) => ErrorKind::AlreadyExists,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::UnknownPool(_) => "UNKNOWN_POOL",
            Self::Address(_) => "INVALID_ADDRESS",
            Self::NoConfigFile => "NO_CONFIG_FILE",
            Self::Change(ChangeError::Unknown(_)) => "UNKNOWN_BACKEND",
            Self::Change(ChangeError::Weight(_)) => "INVALID_WEIGHT",
            Self::Change(ChangeError::Exists(_)) => "BACKEND_EXISTS",
        }
    }

    fn fields(&self) -> Vec<FieldViolation> {
        match self {
            Self::Address(_) => vec![FieldViolation::new("address", "must be an IP address and port")],
            Self::Change(ChangeError::Weight(_)) => vec![FieldViolation::new("weight", self.to_string())],
            _ => Vec::new(),
        }
    }
}
