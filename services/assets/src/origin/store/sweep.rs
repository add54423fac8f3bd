//! Comparing what is known with what is stored: after a start, and now and then, since other replicas keep and evict too.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Inner, Store};
use crate::{
    origin::object::{Object, name_of, record_key},
    storage::{self, Key},
};

/// Names listed at a time.
const BATCH: usize = 500;

/// Records read at a time.
const READS: usize = 8;

impl Store {
    /// Learns of all records, forgets what has none any more, removes bytes older than `age` that no record names, and
    /// makes room; says how many objects of the store were removed as leftovers.
    pub async fn sweep(&self, age: Duration) -> storage::Result<u64> {
        let inner = &self.0;
        let known: Vec<Arc<Object>> =
            inner.index().all().filter(|object| object.is_stored()).cloned().collect();
        let listed = inner.learn().await?;
        for object in known.iter().filter(|object| !listed.contains(&name_of(&object.url))) {
            inner.index().remove_one(&object.url, &object.blob);
        }
        let blobs: HashSet<String> = inner.index().all().map(|object| object.blob.clone()).collect();
        let mut removed = 0;
        for shard in inner.storage.folders(&folder("bytes")).await? {
            removed += inner.sweep_bytes(&folder("bytes").listed(&shard), age, &blobs).await?;
        }
        self.evict().await;
        Ok(removed)
    }
}

impl Inner {
    /// Reads the records that are not known; gives the names of all.
    async fn learn(&self) -> storage::Result<HashSet<String>> {
        let mut listed = HashSet::new();
        for shard in self.storage.folders(&folder("records")).await? {
            listed.extend(self.names(&folder("records").listed(&shard)).await?);
        }
        let known: HashSet<String> = self.index().all().map(|object| name_of(&object.url)).collect();
        let unknown: Vec<String> = listed.difference(&known).cloned().collect();
        let reads = stream::iter(unknown).map(|name| async move { self.read(&record_key(&name)).await });
        let mut records = reads.buffer_unordered(READS);
        while let Some(record) = records.try_next().await? {
            record.into_iter().for_each(|record| self.adopt(record));
        }
        drop(records);
        Ok(listed)
    }

    async fn sweep_bytes(&self, shard: &Key, age: Duration, blobs: &HashSet<String>) -> storage::Result<u64> {
        let mut removed = 0;
        for found in self.names(shard).await? {
            // `<name>.<blob>.<encoding>`, and the blob tells when its fetch was.
            let mut parts = found.split('.');
            let (Some(name), Some(blob)) = (parts.next(), parts.next()) else { continue };
            let old = fetched(blob).is_some_and(|at| at.elapsed().is_ok_and(|passed| passed > age));
            if old && !blobs.contains(blob) && !self.is_named(name, blob).await? {
                self.storage.delete(&shard.listed(&found)).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Whether the record of a URL names a fetch: another replica may have written it since it was read.
    async fn is_named(&self, name: &str, blob: &str) -> storage::Result<bool> {
        let record = self.read(&record_key(name)).await?;
        Ok(record.is_some_and(|record| record.objects().iter().any(|object| object.blob == blob)))
    }

    async fn names(&self, folder: &Key) -> storage::Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let batch = self.storage.list(folder, names.last().map(String::as_str), BATCH).await?;
            let last = batch.len() < BATCH;
            names.extend(batch);
            if last {
                return Ok(names);
            }
        }
    }
}

fn folder(name: &str) -> Key {
    Key::root("origins").listed(name)
}

fn fetched(blob: &str) -> Option<SystemTime> {
    let (seconds, nanos) = uuid::Uuid::try_parse(blob).ok()?.get_timestamp()?.to_unix();
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}
