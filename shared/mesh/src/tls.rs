//! TLS: certificates and keys in files, which are read again when they change, and connections made with them.
//!
//! A change of files that cannot be used leaves what was read before in force. Connections stay as they were made.

mod client;
mod pem;
mod server;
mod stream;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;

pub use client::{Client, ClientTls};
pub use server::{Certificate, ClientCertificates, Server, ServerTls, Version};
pub use stream::Stream;

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing that it should hold.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no certificates to trust.
    #[error("the system has no certificate authorities: name a file of them")]
    NoRoots,
    /// What the files hold does not go together.
    #[error("{0}")]
    Unusable(String),
}

impl TlsError {
    fn file(path: &Path, problem: &impl ToString) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Whatever else the process does, this is done with ring.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Something that is made of files.
trait OfFiles {
    type Made;

    fn files(&self) -> Vec<&Path>;

    fn make(&self) -> Result<Self::Made, TlsError>;
}

/// What was made of files last.
struct Made<S: OfFiles> {
    settings: S,
    current: ArcSwap<Result<Arc<S::Made>, TlsError>>,
    /// Of the files that were looked at last.
    fingerprint: Mutex<u64>,
}

impl<S: OfFiles> Made<S> {
    fn new(settings: S) -> Self {
        let fingerprint = fingerprint(&settings.files());
        let current = ArcSwap::from_pointee(settings.make().map(Arc::new));
        Self { settings, current, fingerprint: Mutex::new(fingerprint) }
    }

    fn get(&self) -> Result<Arc<S::Made>, String> {
        (**self.current.load()).as_ref().map(Arc::clone).map_err(ToString::to_string)
    }

    /// Reads the files again if they are not what they were. Returns whether something new is in force.
    fn refresh(&self) -> Result<bool, TlsError> {
        let now = fingerprint(&self.settings.files());
        let mut seen = self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        let made = self.settings.make()?;
        self.current.store(Arc::new(Ok(Arc::new(made))));
        Ok(true)
    }
}

fn fingerprint(files: &[&Path]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
