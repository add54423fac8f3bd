//! The one clock of the service, so that tests drive it and replicas agree on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Tells the time. Clones share it.
///
/// Real clocks are corrected by an offset, which a store shared by several replicas sets to its own time: leases and
/// due times then mean the same to all of them, whatever their machines' clocks say.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    System { offset: Arc<AtomicI64> },
    Manual { now: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's clock, until corrected.
    #[must_use]
    pub fn system() -> Clock {
        Clock { source: Source::System { offset: Arc::default() } }
    }

    /// A clock that stands still until it is told to advance; for tests.
    #[must_use]
    pub fn manual(now: Millis) -> Clock {
        Clock { source: Source::Manual { now: Arc::new(AtomicI64::new(now)) } }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Millis {
        match &self.source {
            Source::System { offset } => system_now() + offset.load(Ordering::Relaxed),
            Source::Manual { now } => now.load(Ordering::SeqCst),
        }
    }

    /// Follows another clock that says `now`. A manual clock follows nobody.
    pub fn follow(&self, now: Millis) {
        if let Source::System { offset } = &self.source {
            offset.store(now - system_now(), Ordering::Relaxed);
        }
    }

    /// Moves a manual clock on. A real one goes by itself.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { now } = &self.source {
            now.fetch_add(millis(by), Ordering::SeqCst);
        }
    }
}

/// A duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX / 4)
}

/// Milliseconds as a duration; nothing for negative ones.
#[must_use]
pub fn duration(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn system_now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
