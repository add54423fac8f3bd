//! Hot bytes held in memory, so that what is asked for all the time is not read from the store each time.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::storage::{ByteStream, Key, Result, Storage};

/// Bytes by names behind which they never change: those of public assets, and what is kept of origins.
#[derive(Debug)]
pub struct Memory {
    cache: quick_cache::sync::Cache<String, Bytes, Weight>,
    max_entry: u64,
}

/// An opened object, or a range of it.
pub struct Opened {
    /// The bytes asked for.
    pub bytes: ByteStream,
    /// Whether they came from memory.
    pub from_memory: bool,
}

#[derive(Debug, Clone)]
struct Weight;

impl quick_cache::Weighter<String, Bytes> for Weight {
    fn weight(&self, key: &String, bytes: &Bytes) -> u64 {
        (key.len() + bytes.len()) as u64 + 64
    }
}

impl Memory {
    /// Holds `max_bytes` in all, and nothing larger than `max_entry`.
    #[must_use]
    pub fn new(max_bytes: u64, max_entry: u64) -> Self {
        let expected = (max_bytes / (16 * 1024)).max(16) as usize;
        Self { cache: quick_cache::sync::Cache::with_weighter(expected, max_bytes, Weight), max_entry }
    }

    /// Opens an object of `size` bytes from memory, else from the store, and remembers it if it is small enough. `None`
    /// when it is in neither.
    pub async fn open(
        &self,
        storage: &dyn Storage,
        key: &Key,
        name: &str,
        size: u64,
        range: Option<Range<u64>>,
    ) -> Result<Option<Opened>> {
        if let Some(bytes) = self.cache.get(name) {
            return Ok(Some(Opened { bytes: once(&bytes, range), from_memory: true }));
        }
        if size > self.max_entry {
            let object = storage.read(key, range).await?;
            return Ok(object.map(|object| Opened { bytes: object.bytes, from_memory: false }));
        }
        let Some(object) = storage.read(key, None).await? else { return Ok(None) };
        let bytes = object.collect().await?;
        self.cache.insert(name.to_owned(), bytes.clone());
        Ok(Some(Opened { bytes: once(&bytes, range), from_memory: false }))
    }
}

/// Bytes in memory, or a range of them, as a stream.
#[must_use]
pub fn once(bytes: &Bytes, range: Option<Range<u64>>) -> ByteStream {
    let cut = match range {
        Some(range) => {
            let end = (range.end as usize).min(bytes.len());
            bytes.slice((range.start as usize).min(end)..end)
        }
        None => bytes.clone(),
    };
    stream::once(async { Ok(cut) }).boxed()
}
