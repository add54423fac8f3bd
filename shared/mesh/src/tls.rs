//! TLS: certificates and keys in files, which are read again when they change, and connections made with them.
//!
//! A change of files that cannot be used leaves what was read before in force. Connections stay as they were made.

mod client;
mod names;
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
pub use names::ClientNames;
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
    seen: Mutex<Seen>,
}

/// How the files were found.
#[derive(Debug, Default)]
struct Seen {
    /// As they are in force; `None` while nothing is.
    used: Option<u64>,
    /// As they could not be used, and why.
    refused: Option<(u64, String)>,
}

impl<S: OfFiles> Made<S> {
    fn new(settings: S) -> Self {
        let before = fingerprint(&settings.files());
        let made = settings.make().map(Arc::new);
        let seen = Seen { used: made.is_ok().then_some(before), refused: None };
        Self { settings, current: ArcSwap::from_pointee(made), seen: Mutex::new(seen) }
    }

    fn get(&self) -> Result<Arc<S::Made>, String> {
        (**self.current.load()).as_ref().map(Arc::clone).map_err(ToString::to_string)
    }

    /// Reads the files again if they are not those in force. Returns whether something new is; an error is returned once
    /// for what they hold, and they are tried again.
    fn refresh(&self) -> Result<bool, TlsError> {
        let now = fingerprint(&self.settings.files());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.used == Some(now) {
            seen.refused = None;
            return Ok(false);
        }
        match self.settings.make() {
            Ok(made) => {
                *seen = Seen { used: Some(now), refused: None };
                self.current.store(Arc::new(Ok(Arc::new(made))));
                Ok(true)
            }
            Err(error) => {
                let refused = Some((now, error.to_string()));
                let is_news = seen.refused != refused;
                seen.refused = refused;
                if is_news { Err(error) } else { Ok(false) }
            }
        }
    }
}

fn fingerprint(files: &[&Path]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
