//! Whether a service can do its work: what its backend says, turned into what probes are told.

use std::sync::Arc;

use tokio::sync::watch;

/// Why a service that is stopping is not ready.
pub(crate) const DRAINING: &str = "draining";
/// Why one that has just begun is not.
pub const STARTING: &str = "starting";

/// The readiness of a service. Clones share it. Not ready until first set.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Result<(), String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Err(STARTING.to_owned()))))
    }
}

impl Readiness {
    /// Sets it; the error says why not, for people.
    pub fn set(&self, state: Result<(), String>) {
        self.0.send_if_modified(|current| {
            let changed = *current != state;
            if changed {
                match &state {
                    Ok(()) => tracing::debug!("ready"),
                    // Nobody has to be warned of these.
                    Err(reason) if reason == DRAINING || reason == STARTING => {
                        tracing::debug!(reason, "not ready");
                    }
                    Err(reason) => tracing::warn!(reason, "not ready"),
                }
                *current = state;
            }
            changed
        });
    }

    /// What it is now.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn get(&self) -> Result<(), String> {
        self.0.borrow().clone()
    }

    /// Sees every later change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Result<(), String>> {
        self.0.subscribe()
    }

    /// Returns what it is as soon as that is not what was seen.
    ///
    /// # Errors
    /// Why it is not ready.
    pub async fn next(&self, seen: &Result<(), String>) -> Result<(), String> {
        // The sender is in `self`, so the wait does not fail.
        self.0.subscribe().wait_for(|now| now != seen).await.map_or_else(|_| self.get(), |now| now.clone())
    }

    /// Returns when it is ready.
    pub async fn wait(&self) {
        let _ = self.0.subscribe().wait_for(Result::is_ok).await;
    }
}
