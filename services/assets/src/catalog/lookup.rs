//! Finding a public asset by its URL.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Catalog, Inner, Manifest, OwnerKey, Record,
    record::{Pointer, is_id, public_owners, to_json},
    variants::Shared,
};
use crate::{error::Error, storage::Body};

/// URLs whose answers are remembered.
const REMEMBERED: usize = 10_000;

/// Owners of the same public bytes among whom one with the right name is looked for.
const MAX_OWNERS: usize = 100;

/// Versions of a name among which the newest is looked for when its pointer leads nowhere.
const MAX_VERSIONS: usize = 1000;

/// A public asset as found.
#[derive(Debug)]
pub struct Published {
    /// What is known of it.
    pub record: Record,
    /// Its served forms.
    pub manifest: Manifest,
    /// Since when it is what this URL gives.
    pub since: Timestamp,
}

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Url {
    Hash { id: String, name: String },
    Stable { owner: String, name: String },
}

/// Answers of the last moments. Every change of this process makes all of them void; those of other replicas show when
/// they have aged.
#[derive(Debug)]
pub(super) struct Lookups {
    found: quick_cache::sync::Cache<Url, Answer>,
    epoch: AtomicU64,
    ttl: Duration,
}

#[derive(Debug, Clone)]
struct Answer {
    published: Shared,
    at: Instant,
    epoch: u64,
}

impl Lookups {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { found: quick_cache::sync::Cache::new(REMEMBERED), epoch: AtomicU64::new(0), ttl }
    }

    /// Makes all answers void, those being looked for included.
    pub(super) fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn get(&self, url: &Url) -> Option<Shared> {
        let answer = self.found.get(url)?;
        let fresh = answer.epoch == self.epoch.load(Ordering::Acquire) && answer.at.elapsed() < self.ttl;
        fresh.then_some(answer.published)
    }
}

impl Catalog {
    /// The public asset of these bytes and this name, whoever owns it; the first upload, when there are several.
    pub async fn find(&self, id: &str, name: &str) -> Result<Option<Arc<Published>>, Error> {
        if !is_id(id) {
            return Ok(None);
        }
        self.remembered(Url::Hash { id: id.to_owned(), name: name.to_owned() }).await
    }

    /// The owner's newest public asset of a name.
    pub async fn find_newest(&self, owner: &str, name: &str) -> Result<Option<Arc<Published>>, Error> {
        self.remembered(Url::Stable { owner: owner.to_owned(), name: name.to_owned() }).await
    }

    async fn remembered(&self, url: Url) -> Result<Option<Shared>, Error> {
        let lookups = &self.0.lookups;
        if let Some(published) = lookups.get(&url) {
            return Ok(Some(published));
        }
        let (epoch, at) = (lookups.epoch.load(Ordering::Acquire), Instant::now());
        let found = match &url {
            Url::Hash { id, name } => self.0.first_of_bytes(id, name).await?,
            Url::Stable { owner, name } => self.0.newest_of_name(owner, name).await?,
        };
        let Some((record, since)) = found else { return Ok(None) };
        let manifest = self.manifest_or_make(&OwnerKey::of(&record.owner), &record).await?;
        let published = Arc::new(Published { record, manifest, since });
        lookups.found.insert(url, Answer { published: published.clone(), at, epoch });
        Ok(Some(published))
    }
}

impl Inner {
    async fn first_of_bytes(&self, id: &str, name: &str) -> Result<Option<(Record, Timestamp)>, Error> {
        let owners = self.count(self.storage.list(&public_owners(id), None, MAX_OWNERS).await)?;
        let mut first: Option<Record> = None;
        for owner in owners {
            let Some(record) = self.record(&OwnerKey::listed(&owner), id).await? else { continue };
            let older = first.as_ref().is_none_or(|first| record.created_at < first.created_at);
            if record.is_public() && record.name == name && older {
                first = Some(record);
            }
        }
        Ok(first.map(|record| {
            let since = record.created_at;
            (record, since)
        }))
    }

    async fn newest_of_name(&self, owner: &str, name: &str) -> Result<Option<(Record, Timestamp)>, Error> {
        let owner = OwnerKey::of(owner);
        let key = owner.stable(name);
        let pointer: Option<Pointer> = self.json(&key).await?;
        if let Some(pointer) = &pointer
            && let Some(record) = self.public_record(&owner, &pointer.id, name).await?
        {
            return Ok(Some((record, pointer.at)));
        }
        let Some(record) = self.newest_listed(&owner, name).await? else { return Ok(None) };
        // A fresh time: what this name gives now has not been what it gave before.
        let healed = Pointer { id: record.id.clone(), at: Timestamp::now() };
        let at = healed.at;
        if pointer.is_some() {
            self.count(self.storage.put(&key, Body::Bytes(to_json(&healed)?)).await)?;
        } else if !self.count(self.storage.create(&key, to_json(&healed)?).await)? {
            // An upload was quicker; the next request finds what it has written.
            return Ok(Some((record, at)));
        }
        Ok(Some((record, at)))
    }

    /// The newest among the listed uploads of a name; entries without an asset count for nothing.
    async fn newest_listed(&self, owner: &OwnerKey, name: &str) -> Result<Option<Record>, Error> {
        let folder = owner.named(name);
        let mut newest: Option<(Timestamp, Record)> = None;
        for id in self.count(self.storage.list(&folder, None, MAX_VERSIONS).await)? {
            let entry = folder.listed(&id);
            let Some(record) = self.public_record(owner, &id, name).await? else { continue };
            let Some(Pointer { at, .. }) = self.json(&entry).await? else { continue };
            if newest.as_ref().is_none_or(|(newest, _)| at > *newest) {
                newest = Some((at, record));
            }
        }
        Ok(newest.map(|(_, record)| record))
    }

    async fn public_record(&self, owner: &OwnerKey, id: &str, name: &str) -> Result<Option<Record>, Error> {
        let record = self.record(owner, id).await?;
        Ok(record.filter(|record| record.is_public() && record.name == name))
    }
}
