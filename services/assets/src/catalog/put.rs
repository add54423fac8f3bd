//! Storing an upload that has come in whole.

use std::io::BufReader;

use bytes::Bytes;
use jiff::Timestamp;
use tracing::Instrument as _;

use super::{
    Asset, Catalog, Inner, Manifest, OwnerKey, Record, Visibility,
    record::{Pointer, to_json},
    variants::Made,
};
use crate::{
    content::{self, ContentError, Dimensions, MediaType},
    error::Error,
    upload::Received,
};

/// What an upload says of itself, checked.
#[derive(Debug, Clone)]
pub struct NewAsset {
    /// Whose it is.
    pub owner: String,
    /// File name.
    pub name: String,
    /// Media type.
    pub media_type: MediaType,
    /// Who may read it.
    pub visibility: Visibility,
    /// Surrogate keys.
    pub tags: Vec<String>,
}

impl Catalog {
    /// Stores an asset, or finds that its owner has it; says whether so. Goes on to its end when the caller gives up.
    pub async fn put(&self, asset: NewAsset, received: Received) -> Result<(Asset, bool), Error> {
        let catalog = self.clone();
        let storing = async move { catalog.0.put(asset, received).await };
        let storing = self.0.work.spawn(storing.in_current_span());
        storing.await.map_err(|_| Error::Stopping)?
    }
}

impl Inner {
    async fn put(&self, asset: NewAsset, received: Received) -> Result<(Asset, bool), Error> {
        let owner = OwnerKey::of(&asset.owner);
        let (received, dimensions) = self.checked(received, asset.media_type.clone()).await?;
        let _turn = self.locks.lock(&owner, &received.id).await;
        if let Some(record) = self.record(&owner, &received.id).await? {
            return Ok((self.put_again(&owner, record, &asset).await?, true));
        }
        let record = Record {
            id: received.id.clone(),
            owner: asset.owner.clone(),
            name: asset.name.clone(),
            content_type: asset.media_type.to_string(),
            visibility: asset.visibility,
            tags: asset.tags.clone(),
            size_bytes: received.size,
            pixels: dimensions.map_or(0, Dimensions::pixels),
            created_at: Timestamp::now(),
            blob: uuid::Uuid::now_v7().simple().to_string(),
        };
        let (made, received) = if record.is_public() {
            let (made, received) = self.make_of(received, &record).await?;
            (Some(made), received)
        } else {
            (None, received)
        };
        match self.store(&owner, &record, received, made).await {
            Ok(Some(manifest)) => {
                self.metrics.put(record.size_bytes);
                Ok((Asset { record, manifest }, false))
            }
            // Another replica was quicker: its record stands.
            Ok(None) => {
                let first = self.record(&owner, &record.id).await?;
                let first = first.ok_or_else(|| super::not_found(&record.id))?;
                Ok((self.put_again(&owner, first, &asset).await?, true))
            }
            Err(e) => Err(e),
        }
    }

    /// Writes everything, the record last; `None` when there is a record already. Leaves nothing behind otherwise.
    async fn store(
        &self,
        owner: &OwnerKey,
        record: &Record,
        received: Received,
        made: Option<Vec<Made>>,
    ) -> Result<Option<Option<Manifest>>, Error> {
        let written = self.write(owner, record, received, made).await;
        if !matches!(written, Ok(Some(_))) {
            self.take_back(owner, record).await;
        }
        written
    }

    /// Removes what a failed upload has written. With the store away this fails too, and the sweep does it later.
    async fn take_back(&self, owner: &OwnerKey, record: &Record) {
        let removed = async {
            match self.record(owner, &record.id).await? {
                // It was written after all and only the answer was lost.
                Some(found) if found.blob == record.blob => return Ok(()),
                Some(_) => {}
                None if record.is_public() => {
                    self.drop_variants(owner, &record.id).await?;
                    self.remove_from_index(owner, record).await?;
                }
                None => {}
            }
            self.count(self.storage.delete(&record.original(owner)).await)
        };
        let removed: Result<(), Error> = removed.await;
        if let Err(error) = removed {
            tracing::debug!(%error, "a failed upload is left to the sweep");
        }
    }

    async fn write(
        &self,
        owner: &OwnerKey,
        record: &Record,
        received: Received,
        made: Option<Vec<Made>>,
    ) -> Result<Option<Option<Manifest>>, Error> {
        self.count(self.storage.put(&record.original(owner), received.body()).await)?;
        let manifest = match made {
            Some(made) => {
                let manifest = self.store_variants(owner, &record.id, made).await?;
                self.index(owner, record).await?;
                Some(manifest)
            }
            None => None,
        };
        if !self.count(self.storage.create(&owner.record(&record.id), to_json(record)?).await)? {
            return Ok(None);
        }
        if record.is_public() {
            self.point(owner, record).await?;
        }
        Ok(Some(manifest))
    }

    /// Equal bytes once more: the first record stands; asking for PUBLIC makes it so, and a public one is the newest of
    /// its name again.
    async fn put_again(
        &self,
        owner: &OwnerKey,
        mut record: Record,
        asset: &NewAsset,
    ) -> Result<Asset, Error> {
        if !record.is_public() && asset.visibility == Visibility::Private {
            return Ok(Asset { record, manifest: None });
        }
        let manifest = match self.manifest(owner, &record.id).await? {
            Some(manifest) => manifest,
            None => self.make_from_stored(owner, &record).await?,
        };
        self.index(owner, &record).await?;
        if !record.is_public() {
            record.visibility = Visibility::Public;
            self.count(self.storage.put(&owner.record(&record.id), body(&record)?).await)?;
        }
        self.point(owner, &record).await?;
        Ok(Asset { record, manifest: Some(manifest) })
    }

    /// Writes what finds a public asset.
    async fn index(&self, owner: &OwnerKey, record: &Record) -> Result<(), Error> {
        let pointer = body(&Pointer { id: record.id.clone(), at: Timestamp::now() })?;
        let mut keys = vec![owner.public(&record.id), owner.named(&record.name).text(&record.id)];
        keys.extend(record.tags.iter().map(|tag| owner.tagged(tag).text(&record.id)));
        let writes = keys.iter().map(|key| self.storage.put(key, pointer.clone()));
        self.all(writes).await
    }

    /// Makes an asset the newest of its name.
    async fn point(&self, owner: &OwnerKey, record: &Record) -> Result<(), Error> {
        let pointer = Pointer { id: record.id.clone(), at: Timestamp::now() };
        self.count(self.storage.put(&owner.stable(&record.name), body(&pointer)?).await)?;
        self.lookups.forget();
        Ok(())
    }

    async fn checked(
        &self,
        received: Received,
        media_type: MediaType,
    ) -> Result<(Received, Option<Dimensions>), Error> {
        let max_pixels = self.max_pixels;
        let checking = tokio::task::spawn_blocking(move || {
            let checked = match received.reader() {
                Ok(reader) => content::check(BufReader::new(reader), &media_type, max_pixels),
                Err(e) => Err(ContentError::Io(e)),
            };
            (received, checked)
        });
        let (received, checked) = checking.await.map_err(|_| Error::Stopping)?;
        match checked {
            Ok(dimensions) => Ok((received, dimensions)),
            Err(ContentError::Mismatch(problem)) => Err(Error::Invalid { field: "content_type", problem }),
            Err(ContentError::Io(e)) => Err(Error::Spool(e)),
        }
    }

    async fn make_of(&self, received: Received, record: &Record) -> Result<(Vec<Made>, Received), Error> {
        let bytes = tokio::task::spawn_blocking(move || (received.bytes(), received));
        let (bytes, received) = bytes.await.map_err(|_| Error::Stopping)?;
        let bytes: Bytes = bytes.map_err(Error::Spool)?;
        Ok((self.make(bytes, record).await?, received))
    }
}

fn body(value: &impl serde::Serialize) -> Result<crate::storage::Body, Error> {
    to_json(value).map(crate::storage::Body::Bytes)
}
