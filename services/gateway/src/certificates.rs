//! Certificates and keys in force: looked at now and then, and before a reload is acknowledged.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};
use weft_mesh::tls::{ServerTls, TlsError};
use weft_runtime::Scope;

use crate::{config::Config, table::Tables};

/// How often it is looked whether keys are to be fetched.
const FETCH_INTERVAL: Duration = Duration::from_secs(1);

/// All that is secured with certificates from files.
pub(crate) struct Certificates {
    /// Of the listeners, in their order.
    listeners: Vec<Option<Arc<ServerTls>>>,
    tables: Arc<Tables>,
}

impl Certificates {
    pub(crate) fn new(config: &Config, tables: Arc<Tables>) -> Arc<Self> {
        let listeners = config.listeners.iter();
        let tls = listeners.map(|listener| listener.tls.clone().map(|tls| Arc::new(ServerTls::new(tls))));
        Arc::new(Self { listeners: tls.collect(), tables })
    }

    /// What secures the connections of a listener.
    pub(crate) fn of(&self, listener: usize) -> Option<Arc<ServerTls>> {
        self.listeners.get(listener).cloned().flatten()
    }

    /// Looks at the files every so often, until draining.
    pub(crate) fn follow(self: &Arc<Self>, config: &Config, scope: &Scope) {
        let (this, draining, tasks) = (Arc::clone(self), scope.draining.clone(), scope.tasks.clone());
        let mut ticks = interval(config.reload.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        scope.tasks.spawn(draining.run_until_cancelled_owned(async move {
            loop {
                ticks.tick().await;
                let auth = Arc::clone(this.tables.load().auth());
                if this.are_used() || auth.is_configured() {
                    let this = Arc::clone(&this);
                    let read = move || {
                        this.refresh();
                        auth.look_at_files();
                    };
                    let _ = tasks.spawn_blocking(read).await;
                }
            }
        }));
        // On a task of its own: a server of keys that does not answer must not keep files from being looked at.
        let (this, draining) = (Arc::clone(self), scope.draining.clone());
        scope.tasks.spawn(draining.run_until_cancelled_owned(async move {
            loop {
                let auth = Arc::clone(this.tables.load().auth());
                auth.follow().await;
                sleep(FETCH_INTERVAL).await;
            }
        }));
    }

    /// Whether there are any.
    fn are_used(&self) -> bool {
        let pools = &self.tables.load().pools;
        self.listeners.iter().any(Option::is_some)
            || pools.values().any(|entry| entry.pool.settings().tls.is_some())
    }

    /// Reads what has changed. It is in force for connections made from now on.
    pub(crate) fn refresh(&self) {
        for (i, tls) in self.listeners.iter().enumerate() {
            if let Some(tls) = tls {
                tell(&format!("listeners[{i}].tls"), &tls.refresh());
            }
        }
        for (name, entry) in &self.tables.load().pools {
            if let Some(tls) = &entry.pool.settings().tls {
                tell(&format!("pools.{name}.tls"), &tls.refresh());
            }
        }
    }
}

fn tell(key: &str, refreshed: &Result<bool, TlsError>) {
    match refreshed {
        Ok(false) => {}
        Ok(true) => tracing::info!(key, "certificates have changed and are in force"),
        Err(error) => {
            tracing::warn!(key, %error, "certificates cannot be used, those before stay in force");
        }
    }
}
