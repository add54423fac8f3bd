//! What servers tell of the calls they get.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use weft_testkit::eventually;

/// How long anything may take before a test gives up; a fraction of a second, unless the machine is overloaded.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// One line of a server: `began CASE`, `deadline CASE MILLISECONDS`, `half-closed CASE` or `cancelled CASE`.
#[derive(Debug)]
struct Event {
    replica: usize,
    line: String,
}

/// What the replicas of a server have told. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn tell(&self, replica: usize, line: impl Into<String>) {
        self.lock().push(Event { replica, line: line.into() });
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.lock().iter().any(|event| event.line == line)
    }

    /// Waits until a replica has told so.
    pub(crate) async fn until(&self, line: &str) {
        let told = eventually(LIMIT * 2, || async { self.has(line) });
        assert!(tokio::time::timeout(LIMIT, told).await.is_ok(), "no server says `{line}` within {LIMIT:?}");
    }

    /// How much time a call had left when it arrived, in milliseconds.
    pub(crate) fn deadline(&self, case: &str) -> Option<u64> {
        let prefix = format!("deadline {case} ");
        self.lock().iter().find_map(|event| event.line.strip_prefix(&prefix)?.parse().ok())
    }

    /// How many calls a replica has had.
    pub(crate) fn calls(&self, replica: usize) -> usize {
        self.lock()
            .iter()
            .filter(|event| event.replica == replica && event.line.starts_with("began "))
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
