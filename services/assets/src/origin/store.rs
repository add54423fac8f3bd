//! What is kept of origins: an index in memory, records and bytes in the [`Storage`] that assets are in.
//!
//! | key | what |
//! |---|---|
//! | `origins/records/<x>/<name>` | the objects of one URL; `<name>` is the URL's hash, `<x>` its first digit |
//! | `origins/bytes/<x>/<name>.<blob>.<encoding>` | the bytes of one of them; a new `<blob>` for each fetch |
//!
//! Bytes are written before the record that names them and deleted after it, so what is found by a record is whole, and
//! what a killed process leaves behind is swept up. Nothing here is the only copy of anything: whatever fails costs a
//! fetch, never an answer.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, HeaderName};
use tokio_util::task::TaskTracker;

use super::{
    index::Index,
    object::{Object, Place, Record, bytes_key, name_of, record_key},
};
use crate::{
    compress::Encoding,
    memory::{Memory, Opened},
    metrics::Metrics,
    storage::{self, Body, Key, Storage, StorageError},
};

mod precompress;
mod sweep;

use precompress::Requests;

/// Records that are written at a time: those of URLs whose hashes end alike take turns.
const TURNS: usize = 64;

/// The store. Clones are the same.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    memory: Arc<Memory>,
    metrics: Metrics,
    work: TaskTracker,
    index: Mutex<Index>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    precompress: Requests,
}

impl Store {
    /// Keeps at most `max_bytes` in `storage`.
    #[must_use]
    pub fn new(
        storage: Arc<dyn Storage>,
        memory: Arc<Memory>,
        metrics: Metrics,
        work: TaskTracker,
        max_bytes: u64,
    ) -> Self {
        Self(Arc::new(Inner {
            storage,
            memory,
            metrics,
            work,
            index: Mutex::new(Index::new(max_bytes)),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            precompress: Requests::new(),
        }))
    }

    /// The object that answers a request for a URL, of those known.
    #[must_use]
    pub fn find(&self, url: &str, request: &HeaderMap) -> Option<Arc<Object>> {
        let found = self.0.index().find(url, request)?;
        if found.is_stored() && !found.precompressed {
            self.0.precompress.ask(&found);
        }
        Some(found)
    }

    /// The headers that select among the objects of a URL.
    #[must_use]
    pub fn names(&self, url: &str) -> Vec<HeaderName> {
        self.0.index().names(url)
    }

    /// Tells the bytes kept, to a gauge that outlives the store and must not keep it open.
    pub fn meter(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let inner = Arc::downgrade(&self.0);
        move || inner.upgrade().map_or(0, |inner| inner.index().bytes())
    }

    /// Looks for objects of a URL in the store, unless some are known: of an earlier process, or of another replica.
    pub async fn load(&self, url: &str) {
        if self.0.index().holds(url) {
            return;
        }
        match self.0.read(&record_key(&name_of(url))).await {
            Ok(Some(record)) => self.0.adopt(record),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "what is kept of an origin cannot be read"),
        }
    }

    /// Keeps an object in place of its like. It answers from now on; its bytes go to the store meanwhile.
    pub fn keep(&self, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        let replaced = self.0.index().insert(object.clone());
        let (store, saved) = (self.clone(), object.clone());
        self.0.work.spawn(async move {
            if let Err(error) = store.save(&saved).await {
                store.0.metrics.store_error(store.0.storage.backend());
                tracing::debug!(%error, "a response was not kept");
                store.0.index().remove_one(&saved.url, &saved.blob);
                return;
            }
            store.0.drop_bytes(&replaced).await;
            store.evict().await;
        });
        object
    }

    /// Takes over new headers and times of an object, and writes them down if `lasting`. `None` when it is gone.
    pub fn refresh(&self, fresh: &Object, lasting: bool) -> Option<Arc<Object>> {
        let refreshed = self.0.index().change(&fresh.url, &fresh.blob, |object| {
            object.headers.clone_from(&fresh.headers);
            object.timing = fresh.timing;
        })?;
        if lasting && refreshed.is_stored() {
            let (store, url) = (self.clone(), fresh.url.clone());
            self.0.work.spawn(async move { store.0.note(&url).await });
        }
        Some(refreshed)
    }

    /// Opens an encoding of an object, or a range of it. `None` when its bytes are gone.
    pub async fn open(
        &self,
        object: &Object,
        encoding: Encoding,
        range: Option<Range<u64>>,
    ) -> storage::Result<Option<Opened>> {
        let (Place::Store, Some(form)) = (&object.place, object.forms.variant(encoding)) else {
            return self.open_spooled(object, range).await;
        };
        let key = bytes_key(&object.url, &object.blob, encoding);
        let name = format!("{}.{}", object.blob, encoding.as_str());
        let opened = self.0.memory.open(&*self.0.storage, &key, &name, form.size_bytes, range).await;
        opened.inspect_err(|_| self.0.metrics.store_error(self.0.storage.backend()))
    }

    async fn open_spooled(
        &self,
        object: &Object,
        range: Option<Range<u64>>,
    ) -> storage::Result<Option<Opened>> {
        let Place::Spool(received) = &object.place else { return Ok(None) };
        let failed = |e| StorageError::Failed { doing: "reading what came in", source: Box::new(e) };
        let bytes = received.open(range).await.map_err(failed)?;
        Ok(Some(Opened { bytes, from_memory: true }))
    }

    /// Forgets one object, whose bytes are gone or which its origin has no more.
    pub async fn forget_one(&self, object: &Object) {
        let removed = self.0.index().remove_one(&object.url, &object.blob);
        self.0.note(&object.url).await;
        self.0.drop_bytes(removed.as_slice()).await;
    }

    /// Forgets all of a URL.
    pub async fn forget(&self, url: &str) {
        self.load(url).await;
        let removed = self.0.index().remove(url);
        self.0.note(url).await;
        self.0.drop_bytes(&removed).await;
    }

    async fn save(&self, object: &Object) -> storage::Result<()> {
        let Place::Spool(received) = &object.place else { return Ok(()) };
        let inner = &self.0;
        let key = bytes_key(&object.url, &object.blob, Encoding::Identity);
        inner.storage.put(&key, received.body()).await?;
        let stored = inner.index().change(&object.url, &object.blob, |object| object.place = Place::Store);
        match stored {
            Some(stored) => {
                inner.metrics.origin_kept(received.size);
                inner.note(&object.url).await;
                inner.precompress.ask(&stored);
            }
            // Replaced or evicted meanwhile.
            None => inner.storage.delete(&key).await?,
        }
        Ok(())
    }

    /// Makes room.
    async fn evict(&self) {
        let evicted = self.0.index().evict();
        for (url, objects) in evicted {
            self.0.metrics.origin_evicted(objects.len() as u64);
            self.0.note(&url).await;
            self.0.drop_bytes(&objects).await;
        }
    }
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what there is of a URL. What cannot be written is no more than forgotten at the next start.
    async fn note(&self, url: &str) {
        let name = name_of(url);
        let turn =
            url.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % TURNS;
        let _turn = self.turns[turn].lock().await;
        let record = Record::of(url, self.index().objects(url));
        let noted = match record.as_ref().map(serde_json::to_vec) {
            Some(Ok(json)) => self.storage.put(&record_key(&name), Body::Bytes(Bytes::from(json))).await,
            Some(Err(_)) | None => self.storage.delete(&record_key(&name)).await,
        };
        if let Err(error) = noted {
            self.metrics.store_error(self.storage.backend());
            tracing::debug!(%error, "what is kept of an origin was not written down");
        }
    }

    async fn read(&self, key: &Key) -> storage::Result<Option<Record>> {
        let Some(object) = self.storage.read(key, None).await? else { return Ok(None) };
        // One that cannot be read is as good as none, and is written anew.
        Ok(serde_json::from_slice(&object.collect().await?).ok())
    }

    /// Takes what was written down into the index, but for what is known already.
    fn adopt(&self, record: Record) {
        let mut index = self.index();
        for object in record.objects() {
            if index.objects(&object.url).iter().all(|known| known.selection != object.selection) {
                index.insert(Arc::new(object));
            }
        }
    }

    async fn drop_bytes(&self, objects: &[Arc<Object>]) {
        let keys: Vec<_> = objects
            .iter()
            .filter(|object| object.is_stored())
            .flat_map(|object| {
                let forms = object.forms.variants.iter();
                forms.map(|form| bytes_key(&object.url, &object.blob, form.encoding))
            })
            .collect();
        let deleted = join_all(keys.iter().map(|key| self.storage.delete(key))).await;
        if deleted.iter().any(Result::is_err) {
            self.metrics.store_error(self.storage.backend());
            tracing::debug!("bytes that are kept no more are left to the sweep");
        }
    }
}
