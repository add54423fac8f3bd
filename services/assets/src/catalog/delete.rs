//! Deleting an asset, and purging the variants of some.

use super::{Catalog, Inner, OwnerKey, Record, record::Pointer};
use crate::{error::Error, storage::Key};

/// Index entries read at a time.
const BATCH: usize = 500;

/// What to purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All with this surrogate key.
    Tag(String),
    /// All with this file name.
    Name(String),
}

impl Catalog {
    /// Deletes an asset, with its variants; it need not exist.
    pub async fn delete(&self, owner: &str, id: &str) -> Result<(), Error> {
        let (catalog, owner, id) = (self.clone(), OwnerKey::of(owner), id.to_owned());
        let deleting = async move { catalog.0.delete(&owner, &id).await };
        self.0.work.spawn(deleting).await.map_err(|_| Error::Stopping)?
    }

    /// Drops the variants of the owner's public assets of a target; says of how many.
    pub async fn purge(&self, owner: &str, target: &Target) -> Result<u64, Error> {
        let owner = OwnerKey::of(owner);
        let folder = match target {
            Target::Tag(tag) => owner.tagged(tag),
            Target::Name(name) => owner.named(name),
        };
        self.0.purge(&owner, &folder, target).await
    }
}

impl Inner {
    async fn delete(&self, owner: &OwnerKey, id: &str) -> Result<(), Error> {
        let _turn = self.locks.lock(owner, id).await;
        let Some(record) = self.record(owner, id).await? else { return Ok(()) };
        self.count(self.storage.delete(&owner.record(id)).await)?;
        self.lookups.forget();
        if record.is_public() {
            self.remove_from_index(owner, &record).await?;
            self.drop_variants(owner, id).await?;
        }
        // Last, so that whatever is left when this is cut short can be found by it.
        self.count(self.storage.delete(&record.original(owner)).await)
    }

    pub(super) async fn remove_from_index(&self, owner: &OwnerKey, record: &Record) -> Result<(), Error> {
        let mut keys = vec![owner.public(&record.id), owner.named(&record.name).text(&record.id)];
        keys.extend(record.tags.iter().map(|tag| owner.tagged(tag).text(&record.id)));
        let stable = owner.stable(&record.name);
        let pointer: Option<Pointer> = self.json(&stable).await?;
        if pointer.is_some_and(|pointer| pointer.id == record.id) {
            keys.push(stable);
        }
        self.all(keys.iter().map(|key| self.storage.delete(key))).await
    }

    async fn purge(&self, owner: &OwnerKey, folder: &Key, target: &Target) -> Result<u64, Error> {
        let mut purged = 0;
        let mut after: Option<String> = None;
        loop {
            let ids = self.count(self.storage.list(folder, after.as_deref(), BATCH).await)?;
            for id in &ids {
                let _turn = self.locks.lock(owner, id).await;
                let matches = self.record(owner, id).await?.is_some_and(|record| target.matches(&record));
                if matches && self.drop_variants(owner, id).await? {
                    purged += 1;
                }
            }
            if ids.len() < BATCH {
                return Ok(purged);
            }
            after = ids.into_iter().next_back();
        }
    }
}

impl Target {
    fn matches(&self, record: &Record) -> bool {
        match self {
            Self::Tag(tag) => record.tags.contains(tag),
            Self::Name(name) => record.name == *name,
        }
    }
}
