//! The pools of a running gateway, and what may be changed about them.
//!
//! Such a change is an overlay over the configuration: it is kept with the pool's backends, so it survives reloads for
//! as long as the pool is configured.

use std::{net::SocketAddr, sync::Arc};

use weft_balance::{Backend, PickRecord};

pub use crate::table::Entry;
use crate::{error::Error, table::Tables};

/// How many picks are shown to who does not say.
const PICKS: usize = 20;

/// The pools of the table in force. Clones are the same.
#[derive(Clone)]
pub struct Pools(Arc<Tables>);

impl Pools {
    pub(crate) const fn new(tables: Arc<Tables>) -> Self {
        Self(tables)
    }

    /// All of them as of now, by name.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Entry>> + use<> {
        self.list().1.into_iter()
    }

    /// All of them, by name, and the version of the table.
    pub(crate) fn list(&self) -> (u64, Vec<Arc<Entry>>) {
        let table = self.0.load();
        (table.version, table.pools.values().cloned().collect())
    }

    /// The service of Weft that a pool's backends are.
    pub(crate) fn audience(&self, entry: &Entry) -> Option<String> {
        self.0.load().audience(&entry.config)
    }

    fn get(&self, name: &str) -> Result<Arc<Entry>, Error> {
        self.0.load().pools.get(name).cloned().ok_or_else(|| Error::UnknownPool(name.to_owned()))
    }

    /// Adds a backend. It takes calls after its first passing check.
    ///
    /// # Errors
    /// An unknown pool, an address that is none or is there already, a weight out of range.
    pub fn add(&self, pool: &str, address: &str, weight: u32) -> Result<Arc<Backend>, Error> {
        let entry = self.get(pool)?;
        let address: SocketAddr = address.parse().map_err(|_| Error::Address(address.to_owned()))?;
        let backend = entry.pool.backends.add(&address.to_string(), if weight == 0 { 1 } else { weight })?;
        tracing::info!(pool, %address, weight, "backend added");
        entry.pool.changed();
        Ok(backend)
    }

    /// Removes a backend.
    ///
    /// # Errors
    /// An unknown pool or backend.
    pub fn remove(&self, pool: &str, address: &str) -> Result<(), Error> {
        let entry = self.get(pool)?;
        entry.pool.backends.remove(address)?;
        tracing::info!(pool, address, "backend removed");
        entry.pool.changed();
        Ok(())
    }

    /// Sets a backend's weight.
    ///
    /// # Errors
    /// An unknown pool or backend, a weight out of range.
    pub fn set_weight(&self, pool: &str, address: &str, weight: u32) -> Result<Arc<Backend>, Error> {
        let backend = self.get(pool)?.pool.backends.set_weight(address, weight)?;
        tracing::info!(pool, address, weight, "weight set");
        Ok(backend)
    }

    /// Drains a backend, or puts it back.
    ///
    /// # Errors
    /// An unknown pool or backend.
    pub fn set_draining(&self, pool: &str, address: &str, draining: bool) -> Result<Arc<Backend>, Error> {
        let backend = self.get(pool)?.pool.backends.set_draining(address, draining)?;
        tracing::info!(pool, address, draining, "drain state set");
        Ok(backend)
    }

    /// The last picks of a pool, newest first, at most `limit`; 0 means 20.
    ///
    /// # Errors
    /// An unknown pool.
    pub fn picks(&self, pool: &str, limit: u32) -> Result<Vec<PickRecord>, Error> {
        let limit = if limit == 0 { PICKS } else { limit as usize };
        let mut picks = self.get(pool)?.pool.backends.recorded();
        picks.truncate(limit);
        Ok(picks)
    }
}
