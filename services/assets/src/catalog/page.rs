//! Listing an owner's assets page by page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Asset, Catalog, OwnerKey, record::is_id};
use crate::error::Error;

/// Records read at a time.
const CONCURRENT: usize = 16;

/// Bytes of a token's checksum.
const CHECK_BYTES: usize = 8;

/// A page of assets, sorted by id.
#[derive(Debug)]
pub struct Page {
    /// The assets.
    pub assets: Vec<Asset>,
    /// Leads to the next page; empty on the last.
    pub next: String,
}

impl Catalog {
    /// The owner's assets from a token on, at most `size` of them.
    pub async fn list(&self, owner: &str, token: &str, size: usize) -> Result<Page, Error> {
        let after = if token.is_empty() { None } else { Some(decode(owner, token)?) };
        let key = OwnerKey::of(owner);
        let inner = &self.0;
        let listing = inner.storage.list(&key.records(), after.as_deref(), size + 1).await;
        let mut ids = inner.count(listing)?;
        let more = ids.len() > size;
        ids.truncate(size);
        let next = match ids.last() {
            Some(last) if more => encode(owner, last),
            _ => String::new(),
        };
        let reads = ids.into_iter().map(|id| {
            let key = key.clone();
            async move {
                match inner.record(&key, &id).await? {
                    Some(record) => inner.describe(record).await.map(Some),
                    // Deleted since it was listed.
                    None => Ok(None),
                }
            }
        });
        let assets: Vec<Option<Asset>> = stream::iter(reads).buffered(CONCURRENT).try_collect().await?;
        Ok(Page { assets: assets.into_iter().flatten().collect(), next })
    }
}

fn encode(owner: &str, id: &str) -> String {
    let mut token = check(owner, id).to_vec();
    token.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(token)
}

fn decode(owner: &str, token: &str) -> Result<String, Error> {
    let malformed = || Error::invalid("page_token", "not a token of this listing");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
    let (sum, id) = bytes.split_at_checked(CHECK_BYTES).ok_or_else(malformed)?;
    let id = String::from_utf8(id.to_vec()).map_err(|_| malformed())?;
    if is_id(&id) && sum == check(owner, &id) { Ok(id) } else { Err(malformed()) }
}

/// Binds a token to its owner and shows typing errors; it keeps no secret.
fn check(owner: &str, id: &str) -> [u8; CHECK_BYTES] {
    let hash =
        blake3::Hasher::new().update(b"assets").update(owner.as_bytes()).update(id.as_bytes()).finalize();
    let mut sum = [0; CHECK_BYTES];
    sum.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_for_its_owner_only() {
        let id = "0123456789abcdef".repeat(4);
        let token = encode("alice", &id);
        assert_eq!(decode("alice", &token).unwrap(), id);
        assert!(decode("bob", &token).is_err());
        for bad in ["x", "????", &token[1..], &format!("{token}A"), &token.to_uppercase()] {
            let error = decode("alice", bad).unwrap_err();
            assert!(error.to_string().starts_with("page_token: "), "{bad}: {error}");
        }
    }
}
