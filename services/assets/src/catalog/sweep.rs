//! Removing what uploads and deletions left behind that were killed half-way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Catalog, Inner, OwnerKey};
use crate::{error::Error, storage::Key};

/// Objects listed at a time.
const BATCH: usize = 500;

impl Catalog {
    /// Removes the bytes behind which no record stands, if they are older than `age`; says how many.
    pub async fn sweep(&self, age: Duration) -> Result<u64, Error> {
        let mut removed = 0;
        for owner in self.0.count(self.0.storage.folders(&Key::root("originals")).await)? {
            removed += self.0.sweep_owner(&OwnerKey::listed(&owner), age).await?;
        }
        Ok(removed)
    }
}

impl Inner {
    async fn sweep_owner(&self, owner: &OwnerKey, age: Duration) -> Result<u64, Error> {
        let mut removed = 0;
        let mut after: Option<String> = None;
        loop {
            let names = self.count(self.storage.list(&owner.originals(), after.as_deref(), BATCH).await)?;
            for name in &names {
                removed += u64::from(self.sweep_one(owner, name, age).await?);
            }
            if names.len() < BATCH {
                return Ok(removed);
            }
            after = names.into_iter().next_back();
        }
    }

    /// `name` is `<id>.<blob>`, and the blob tells when its upload began.
    async fn sweep_one(&self, owner: &OwnerKey, name: &str, age: Duration) -> Result<bool, Error> {
        let Some((id, blob)) = name.split_once('.') else { return Ok(false) };
        if !began(blob).is_some_and(|began| began.elapsed().is_ok_and(|passed| passed > age)) {
            return Ok(false);
        }
        let _turn = self.locks.lock(owner, id).await;
        match self.record(owner, id).await? {
            Some(record) if record.blob == blob => return Ok(false),
            Some(_) => {}
            None => {
                self.drop_variants(owner, id).await?;
                self.count(self.storage.delete(&owner.public(id)).await)?;
            }
        }
        self.count(self.storage.delete(&owner.originals().listed(name)).await)?;
        Ok(true)
    }
}

fn began(blob: &str) -> Option<SystemTime> {
    let (seconds, nanos) = uuid::Uuid::try_parse(blob).ok()?.get_timestamp()?.to_unix();
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}
