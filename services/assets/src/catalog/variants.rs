//! The served forms of public assets: made before an upload is answered, or again when they were purged.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tracing::Instrument as _;

use super::{
    Catalog, Inner, Manifest, OwnerKey, Published, Record,
    record::{Variant, to_json},
};
use crate::{
    compress::{Encoding, compress},
    content::MediaType,
    error::Error,
    memory::Opened,
    optimize::{self, Kept, Kind, Limits},
    storage::Body,
};

/// Bytes of an etag: half of the hash is far beyond any collision.
const ETAG_HEX: usize = 32;

/// A served form, fresh from the optimizer.
#[derive(Debug)]
pub(super) struct Made {
    variant: Variant,
    /// `None` when it is the original.
    bytes: Option<Bytes>,
}

impl Catalog {
    /// Opens a form of a public asset, or a range of its bytes. `None` when the asset is gone meanwhile.
    pub async fn open(
        &self,
        published: &Published,
        encoding: Encoding,
        range: Option<Range<u64>>,
    ) -> Result<Option<Opened>, Error> {
        let inner = &self.0;
        let Some(variant) = published.manifest.variant(encoding) else { return Ok(None) };
        let owner = OwnerKey::of(&published.record.owner);
        let key = match (encoding, variant.optimized) {
            (Encoding::Identity, false) => published.record.original(&owner),
            _ => owner.variant(&published.record.id, encoding),
        };
        let (storage, size) = (&*inner.storage, variant.size_bytes);
        inner.count(inner.memory.open(storage, &key, &variant.etag, size, range).await)
    }

    /// The served forms of a public asset; makes them when they are not there, once for all who ask.
    pub(super) async fn manifest_or_make(
        &self,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Manifest, Error> {
        if let Some(manifest) = self.0.manifest(owner, &record.id).await? {
            return Ok(manifest);
        }
        let (catalog, owner, record) = (self.clone(), owner.clone(), record.clone());
        let making = async move {
            let inner = &catalog.0;
            let _turn = inner.locks.lock(&owner, &record.id).await;
            match inner.manifest(&owner, &record.id).await? {
                Some(manifest) => Ok(manifest),
                None => inner.make_from_stored(&owner, &record).await,
            }
        };
        // On its own: a reader who gives up must not undo the work for the others.
        self.0.work.spawn(making.in_current_span()).await.map_err(|_| Error::Stopping)?
    }

    /// Forgets the served forms of an asset whose bytes are missing, so that they are made again.
    pub async fn repair(&self, published: &Published) -> Result<(), Error> {
        let owner = OwnerKey::of(&published.record.owner);
        self.0.lookups.forget();
        self.0.count(self.0.storage.delete(&owner.manifest(&published.record.id)).await)
    }
}

impl Inner {
    /// Makes the served forms from the stored original and stores them.
    pub(super) async fn make_from_stored(
        &self,
        owner: &OwnerKey,
        record: &Record,
    ) -> Result<Manifest, Error> {
        let object = self.count(self.storage.read(&record.original(owner), None).await)?;
        let Some(object) = object else {
            return Err(Error::Damaged { what: format!("the bytes of asset {}", record.id) });
        };
        let bytes = self.count(object.collect().await)?;
        let made = self.make(bytes, record).await?;
        self.store_variants(owner, &record.id, made).await
    }

    /// Makes the served forms.
    pub(super) async fn make(&self, bytes: Bytes, record: &Record) -> Result<Vec<Made>, Error> {
        let media_type = MediaType::parse(&record.content_type).map_err(|problem| Error::Damaged {
            what: format!("media type {}: {problem}", record.content_type),
        })?;
        let (limits, name, pixels) = (self.limits, record.name.clone(), record.pixels);
        let input_bytes = bytes.len() as u64;
        let kind = media_type.optimizer();
        let (made, kept) = self.pool.run(move || make_all(bytes, &media_type, &name, pixels, limits)).await?;
        if let Some(kind) = kind {
            let output_bytes = made.first().map_or(0, |identity| identity.variant.size_bytes);
            self.metrics.optimized(kind, input_bytes, output_bytes, kept.as_ref());
        }
        match (kind, kept) {
            // Nothing but a parser can tell a script; the other kinds are checked on their way in.
            (Some(Kind::Js), Some(Kept::Unreadable(problem))) => {
                Err(Error::invalid("content_type", format!("the bytes are not JavaScript: {problem}")))
            }
            _ => Ok(made),
        }
    }

    /// Stores the served forms, their list last.
    pub(super) async fn store_variants(
        &self,
        owner: &OwnerKey,
        id: &str,
        made: Vec<Made>,
    ) -> Result<Manifest, Error> {
        let mut variants = Vec::new();
        for Made { variant, bytes } in made {
            if let Some(bytes) = bytes {
                let key = owner.variant(id, variant.encoding);
                self.count(self.storage.put(&key, Body::Bytes(bytes)).await)?;
            }
            variants.push(variant);
        }
        let manifest = Manifest { version: optimize::VERSION, variants };
        self.count(self.storage.put(&owner.manifest(id), Body::Bytes(to_json(&manifest)?)).await)?;
        self.lookups.forget();
        Ok(manifest)
    }

    /// Removes the served forms, their list first; says whether there was one.
    pub(super) async fn drop_variants(&self, owner: &OwnerKey, id: &str) -> Result<bool, Error> {
        let existed = self.manifest(owner, id).await?.is_some();
        self.count(self.storage.delete(&owner.manifest(id)).await)?;
        self.lookups.forget();
        for encoding in [Encoding::Identity].into_iter().chain(Encoding::COMPRESSING) {
            self.count(self.storage.delete(&owner.variant(id, encoding)).await)?;
        }
        Ok(existed)
    }
}

fn make_all(
    original: Bytes,
    media_type: &MediaType,
    name: &str,
    pixels: u64,
    limits: Limits,
) -> (Vec<Made>, Option<Kept>) {
    let optimized =
        media_type.optimizer().map(|kind| optimize::optimize(kind, &original, name, pixels, limits));
    let (identity, is_optimized, kept) = match optimized {
        Some(Ok(smaller)) => (Bytes::from(smaller), true, None),
        Some(Err(kept)) => (original, false, Some(kept)),
        None => (original, false, None),
    };
    let mut made = vec![Made {
        variant: variant(Encoding::Identity, is_optimized, &identity),
        bytes: is_optimized.then(|| identity.clone()),
    }];
    if media_type.is_compressible() {
        for encoding in Encoding::COMPRESSING {
            if let Some(small) = compress(encoding, &identity) {
                made.push(Made {
                    variant: variant(encoding, is_optimized, &small),
                    bytes: Some(small.into()),
                });
            }
        }
    }
    (made, kept)
}

fn variant(encoding: Encoding, optimized: bool, bytes: &[u8]) -> Variant {
    let mut etag = blake3::hash(bytes).to_hex().to_string();
    etag.truncate(ETAG_HEX);
    Variant { encoding, optimized, size_bytes: bytes.len() as u64, etag }
}

/// A published asset with its forms, shared by those who are served it.
pub(super) type Shared = Arc<Published>;
