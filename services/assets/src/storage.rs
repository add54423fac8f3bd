//! Where bytes are kept: a flat space of small and large objects under slash-separated keys.
//!
//! Backends know nothing of assets; what the keys mean is in [`crate::catalog`].

use std::{fmt, ops::Range, path::PathBuf, pin::Pin};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture};

mod filesystem;
mod key;
mod s3;

pub use filesystem::Filesystem;
pub use key::Key;
pub use s3::{S3, S3Settings};

/// A store of objects.
///
/// The contract; every sentence has a test that runs on each implementation:
///
/// 1. `put` makes an object visible whole or not at all: a reader sees the old bytes or the new, never a mixture.
/// 2. `put` replaces an object; `create` leaves an existing one alone and answers `false`.
/// 3. Of several concurrent `create`s of one key exactly one answers `true` (on S3: if the store's conditional writes
///    are atomic, which they are on AWS).
/// 4. `read` of a missing object is `None`.
/// 5. `read` of a range gives exactly its bytes, cut at the end of the object, and the size of the whole object.
/// 6. `list` gives the names directly below a folder in byte order, after a name and up to a limit; an unknown folder is
///    empty, and what is half written is never listed.
/// 7. `folders` gives the folders directly below a folder, in byte order.
/// 8. `delete` of a missing object is fine.
/// 9. A body from a file arrives whole, whatever its size.
/// 10. What `put` or `create` has acknowledged is there after the process is killed and started again.
/// 11. A store that cannot be reached answers [`StorageError::Unavailable`] within its time limit, and works again after
///     its return without being opened anew.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Which one this is, for people and labels.
    fn backend(&self) -> Backend;

    /// Stores an object. Not cancellation safe: a dropped call may still take effect, whole.
    fn put<'a>(&'a self, key: &'a Key, body: Body) -> BoxFuture<'a, Result<()>>;

    /// Stores a small object unless there is one under this key already; says whether it did.
    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<bool>>;

    /// Opens an object, or the given range of its bytes.
    fn read<'a>(&'a self, key: &'a Key, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Option<Object>>>;

    /// Names directly below `folder`, sorted, those greater than `after` only.
    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Names of the folders directly below `folder`, sorted.
    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Deletes an object.
    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>>;

    /// Whether the store answers now.
    fn probe(&self) -> BoxFuture<'_, Result<()>>;
}

/// What a [`Storage`] call gives.
pub type Result<T> = std::result::Result<T, StorageError>;

/// The bytes of an opened object.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A local directory.
    Filesystem,
    /// Any S3-compatible store.
    S3,
}

impl Backend {
    /// As shown in statistics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::S3 => "s3",
        }
    }
}

/// What to store.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A finished file, which stays where it is.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
}

impl Body {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

/// An opened object.
pub struct Object {
    /// Length of the whole object in bytes, also when only a range was asked for.
    pub size: u64,
    /// The bytes asked for.
    pub bytes: ByteStream,
}

impl Object {
    /// Reads all of it into memory; for small objects.
    pub async fn collect(mut self) -> Result<Bytes> {
        use futures::TryStreamExt as _;

        let Some(first) = self.bytes.try_next().await? else { return Ok(Bytes::new()) };
        let mut all = bytes::BytesMut::from(first);
        while let Some(chunk) = self.bytes.try_next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It could not be reached or did not answer in time; trying again later may work.
    #[error("the store cannot be reached: {doing}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refused or failed; trying again will not help.
    #[error("the store failed: {doing}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StorageError {
    /// Whether trying again later may work.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
