//! Content codings of what is kept, made one after another beside the requests.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Store;
use crate::{
    compress::{Encoding, compress},
    optimize::Pool,
    origin::object::{Object, bytes_key},
    storage::{self, Body},
};

/// Objects that may wait. One more is asked for again by the next request for it.
const WAITING: usize = 1024;

/// Which object: its URL and fetch.
type Name = (String, String);

/// What is to be compressed, each once.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: Mutex<HashSet<Name>>,
    sender: mpsc::Sender<Name>,
    receiver: Mutex<Option<mpsc::Receiver<Name>>>,
}

impl Requests {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { waiting: Mutex::default(), sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// Asks for the codings of an object, if it is worth one.
    pub(super) fn ask(&self, object: &Object) {
        if !object.is_compressible() {
            return;
        }
        let name = (object.url.clone(), object.blob.clone());
        if self.waiting().insert(name.clone()) && self.sender.try_send(name.clone()).is_err() {
            self.waiting().remove(&name);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Makes what is asked for, until the end. One at a time, so that uploads find room in the pool.
    pub async fn precompress(self, pool: Pool, stopping: CancellationToken) {
        let receiver = self.0.precompress.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut receiver) = receiver else { return };
        loop {
            let name = tokio::select! {
                name = receiver.recv() => name,
                () = stopping.cancelled() => return,
            };
            let Some(name) = name else { return };
            let made = tokio::select! {
                made = self.precompress_one(&pool, &name) => made,
                () = stopping.cancelled() => return,
            };
            self.0.precompress.waiting().remove(&name);
            if let Err(error) = made {
                tracing::debug!(%error, "a response stays uncompressed for now");
            }
        }
    }

    async fn precompress_one(&self, pool: &Pool, (url, blob): &Name) -> storage::Result<()> {
        let inner = &self.0;
        let found = inner.index().objects(url).iter().find(|object| object.blob == *blob).cloned();
        let Some(object) = found.filter(|object| !object.precompressed) else { return Ok(()) };
        let key = bytes_key(url, blob, Encoding::Identity);
        let Some(stored) = inner.storage.read(&key, None).await? else { return Ok(()) };
        let bytes = stored.collect().await?;
        // A full pool is left to uploads, whose callers wait: the next request asks again.
        let Ok(made) = pool.run(move || all_of(&bytes)).await else { return Ok(()) };
        for (encoding, bytes) in &made {
            inner.storage.put(&bytes_key(url, blob, *encoding), Body::Bytes(bytes.clone())).await?;
        }
        let add = |object: &mut Object| {
            made.iter().for_each(|(encoding, bytes)| object.add_form(*encoding, bytes));
            object.precompressed = true;
        };
        let changed = inner.index().change(url, blob, add).is_some();
        let (store, mut object) = (self.clone(), Object::clone(&object));
        add(&mut object);
        // On its own: what is served already is written down although the service is ending.
        inner.work.spawn(async move {
            if changed {
                store.0.note(&object.url).await;
                store.evict().await;
            } else {
                store.0.drop_bytes(&[Arc::new(object)]).await;
            }
        });
        Ok(())
    }
}

fn all_of(bytes: &[u8]) -> Vec<(Encoding, Bytes)> {
    let made = Encoding::COMPRESSING.map(|encoding| Some((encoding, compress(encoding, bytes)?.into())));
    made.into_iter().flatten().collect()
}
