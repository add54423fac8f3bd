//! Where a configuration came from, so that it can be read again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::ConfigError;

/// A file, and how a configuration is made of it and of all else that it was made of the first time. It is no part of
/// the configuration: two that differ only in it are equal.
pub struct Origin<C> {
    path: PathBuf,
    read: Arc<dyn Fn() -> Result<C, ConfigError> + Send + Sync>,
}

impl<C: 'static> Origin<C> {
    /// A file, and what reads it.
    pub fn new(path: PathBuf, read: impl Fn() -> Result<C, ConfigError> + Send + Sync + 'static) -> Self {
        Self { path, read: Arc::new(read) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks the configuration as it is now. Blocks for as long as the file takes.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn read(&self) -> Result<C, ConfigError> {
        (self.read)()
    }

    /// The same with a change to every configuration that is read, for a launcher that fills in what it knows.
    #[must_use]
    pub fn adjusted(self, adjust: impl Fn(&mut C) + Send + Sync + 'static) -> Self {
        let read = self.read;
        let adjusted = move || {
            let mut config = read()?;
            adjust(&mut config);
            Ok(config)
        };
        Self { path: self.path, read: Arc::new(adjusted) }
    }
}

impl<C> Clone for Origin<C> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), read: Arc::clone(&self.read) }
    }
}

impl<C> fmt::Debug for Origin<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(&self.path).finish()
    }
}

impl<C> PartialEq for Origin<C> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<C> Eq for Origin<C> {}
