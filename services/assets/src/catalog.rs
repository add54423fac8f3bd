//! Assets: what there is, whose it is, who may see it.
//!
//! The record of an asset is the truth. It is written last and deleted first, and whatever else is found (an index entry,
//! a variant, the bytes) counts only while a record stands behind it. So an upload or deletion that is killed at any
//! moment is either done or invisible, and what it leaves behind is swept up later.
//!
//! | key | what |
//! |---|---|
//! | `records/<owner>/<id>` | the [`Record`] |
//! | `originals/<owner>/<id>.<blob>` | the bytes as uploaded; a new `<blob>` for each upload, so that a deletion never meets a later upload of the same bytes |
//! | `variants/<owner>/<id>.manifest`, `.identity`, `.br`, … | the served forms and their list, public assets only |
//! | `public/<id>/<owner>` | finds the owners of a public asset by its id |
//! | `names/<owner>/<name>/<id>`, `tags/<owner>/<tag>/<id>` | finds public assets to purge, and the newest of a name |
//! | `stable/<owner>/<name>` | the newest of a name; made again from `names` when it leads nowhere |

use std::{path::Path, sync::Arc};

use futures::future::join_all;
use tokio_util::task::TaskTracker;
use weft_runtime::Scope;

mod delete;
mod locks;
mod lookup;
mod page;
mod put;
mod record;
mod sweep;
mod variants;

pub use delete::Target;
pub use lookup::Published;
pub use page::Page;
pub use put::NewAsset;
pub(crate) use record::is_id;
pub use record::{Manifest, Record, Variant, Visibility};

use self::{locks::Locks, lookup::Lookups, record::OwnerKey};
use crate::{
    config::Config,
    error::Error,
    memory::Memory,
    metrics::Metrics,
    optimize::{Limits, Pool},
    spool::Spool,
    storage::{ByteStream, Storage, StorageError},
};

/// An asset and its variants, as shown to its owner.
#[derive(Debug, Clone)]
pub struct Asset {
    /// What is known of it.
    pub record: Record,
    /// Its served forms; empty for a private one, and while they have been purged.
    pub manifest: Option<Manifest>,
}

/// All assets. Clones are the same.
#[derive(Debug, Clone)]
pub struct Catalog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    pool: Pool,
    metrics: Metrics,
    work: TaskTracker,
    locks: Locks,
    lookups: Lookups,
    memory: Arc<Memory>,
    spool: Spool,
    max_asset_bytes: u64,
    max_pixels: u64,
    limits: Limits,
}

impl Catalog {
    /// Assets kept in `storage`; uploads are spooled in `spool`.
    #[must_use]
    pub fn new(
        config: &Config,
        storage: Arc<dyn Storage>,
        spool: Spool,
        metrics: Metrics,
        scope: &Scope,
    ) -> Self {
        let optimize = &config.optimize;
        let limits =
            Limits { max_pixels: optimize.max_optimized_pixels, max_text_bytes: optimize.max_text_bytes };
        Self(Arc::new(Inner {
            storage,
            pool: Pool::new(optimize.workers, optimize.max_waiting, scope.stopping.clone()),
            metrics,
            work: scope.work.clone(),
            locks: Locks::default(),
            lookups: Lookups::new(config.http.lookup_ttl),
            memory: Arc::new(Memory::new(config.http.memory_bytes, config.http.memory_entry_bytes)),
            spool,
            max_asset_bytes: config.max_asset_bytes,
            max_pixels: optimize.max_pixels,
            limits,
        }))
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The optimizers' pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// The store.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    /// The hot bytes.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.0.memory
    }

    /// Where uploads are spooled.
    #[must_use]
    pub fn spool(&self) -> &Path {
        self.0.spool.folder()
    }

    /// Largest upload in bytes.
    #[must_use]
    pub fn max_asset_bytes(&self) -> u64 {
        self.0.max_asset_bytes
    }

    /// Describes an asset.
    pub async fn stat(&self, owner: &str, id: &str) -> Result<Asset, Error> {
        let inner = &self.0;
        let record = inner.record(&OwnerKey::of(owner), id).await?.ok_or_else(|| not_found(id))?;
        inner.describe(record).await
    }

    /// Opens the original bytes of an asset.
    pub async fn get(&self, owner: &str, id: &str) -> Result<(Asset, ByteStream), Error> {
        let asset = self.stat(owner, id).await?;
        let key = asset.record.original(&OwnerKey::of(owner));
        match self.0.count(self.0.storage.read(&key, None).await)? {
            Some(object) => Ok((asset, object.bytes)),
            // Deleted between the two reads, or lost.
            None if self.0.record(&OwnerKey::of(owner), id).await?.is_none() => Err(not_found(id)),
            None => Err(Error::Damaged { what: format!("the bytes of asset {id}") }),
        }
    }
}

impl Inner {
    /// Counts a store's failures on their way to the caller.
    fn count<T>(&self, result: Result<T, StorageError>) -> Result<T, Error> {
        result.map_err(|e| {
            self.metrics.store_error(self.storage.backend());
            Error::Storage(e)
        })
    }

    /// Waits for all of them, failed or not: a write still under way would land after whatever undoes it.
    async fn all(
        &self,
        writes: impl Iterator<Item = impl Future<Output = Result<(), StorageError>>>,
    ) -> Result<(), Error> {
        let results = join_all(writes).await;
        self.count(results.into_iter().collect())
    }

    async fn describe(&self, record: Record) -> Result<Asset, Error> {
        let manifest = match record.visibility {
            Visibility::Public => self.manifest(&OwnerKey::of(&record.owner), &record.id).await?,
            Visibility::Private => None,
        };
        Ok(Asset { record, manifest })
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound { id: id.to_owned() }
}

#[cfg(test)]
mod tests;
