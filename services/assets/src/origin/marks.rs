//! What is remembered of URLs for a moment, so that not everybody has to find it out: never a response.

use std::time::{Duration, Instant, SystemTime};

use quick_cache::sync::Cache;

use super::{cacheable::Refusal, client::FetchError};

/// URLs of which something is remembered.
const REMEMBERED: usize = 10_000;

/// How long requests for what is not kept go to the origin side by side, without one waiting for the other.
const ALONE_FOR: Duration = Duration::from_secs(10);

/// How long an origin that has failed is not asked for the same again.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// What is remembered of a URL.
#[derive(Debug, Clone)]
pub enum Mark {
    /// Its response is for one client only.
    Alone {
        /// Why.
        refusal: Refusal,
        /// Since when.
        at: Instant,
    },
    /// The origin failed.
    Failed {
        /// How.
        error: FetchError,
        /// When.
        at: Instant,
    },
}

/// The marks.
#[derive(Debug)]
pub struct Marks {
    marks: Cache<String, Mark>,
    changes: Cache<String, SystemTime>,
}

impl Mark {
    /// From now on.
    #[must_use]
    pub fn alone(refusal: Refusal) -> Self {
        Self::Alone { refusal, at: Instant::now() }
    }

    /// Just now.
    #[must_use]
    pub fn failed(error: FetchError) -> Self {
        Self::Failed { error, at: Instant::now() }
    }
}

impl Default for Marks {
    fn default() -> Self {
        let (marks, changes) = (Cache::new(REMEMBERED), Cache::new(REMEMBERED));
        Self { marks, changes }
    }
}

impl Marks {
    /// Remembers.
    pub fn set(&self, url: &str, mark: Mark) {
        self.marks.insert(url.to_owned(), mark);
    }

    /// Forgets.
    pub fn clear(&self, url: &str) {
        self.marks.remove(url);
    }

    /// Why requests for a URL are not to wait for one another.
    #[must_use]
    pub fn alone(&self, url: &str) -> Option<Refusal> {
        match self.marks.get(url)? {
            Mark::Alone { refusal, at } if at.elapsed() < ALONE_FOR => Some(refusal),
            _ => None,
        }
    }

    /// How the last fetch of a URL failed, and whether it is too early for the next one.
    #[must_use]
    pub fn failed(&self, url: &str) -> Option<(FetchError, bool)> {
        match self.marks.get(url)? {
            Mark::Failed { error, at } => Some((error, at.elapsed() < FAILED_FOR)),
            Mark::Alone { .. } => None,
        }
    }

    /// Remembers that a request has changed what is behind a URL.
    pub fn change(&self, url: &str) {
        self.changes.insert(url.to_owned(), SystemTime::now());
    }

    /// Whether one has done so since.
    #[must_use]
    pub fn changed_since(&self, url: &str, since: SystemTime) -> bool {
        self.changes.get(url).is_some_and(|changed| changed >= since)
    }
}
