//! What is written down of an asset, and where.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Inner;
use crate::{compress::Encoding, error::Error, storage::Key};

/// Who may read an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Its owner.
    #[default]
    Private,
    /// Everybody who knows its URL.
    Public,
}

/// An asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// BLAKE3 hash of the original bytes, lower-case hex.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// File name of the first upload.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// Who may read it.
    pub visibility: Visibility,
    /// Surrogate keys.
    pub tags: Vec<String>,
    /// Size of the original bytes.
    pub size_bytes: u64,
    /// Width times height, for images.
    pub pixels: u64,
    /// When it was first uploaded.
    pub created_at: Timestamp,
    /// Which upload its bytes are from.
    pub blob: String,
}

/// The served forms of a public asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Generation of the optimizers that made them.
    pub version: u32,
    /// One for each encoding, `identity` first.
    pub variants: Vec<Variant>,
}

/// A served form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Whether its bytes are the optimizer's.
    pub optimized: bool,
    /// Size as stored.
    pub size_bytes: u64,
    /// Hash of its bytes: a strong validator.
    pub etag: String,
}

/// Which asset a stable name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The asset.
    pub(super) id: String,
    /// Since when.
    pub(super) at: Timestamp,
}

/// An owner as a segment of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnerKey(Key);

impl OwnerKey {
    pub(super) fn of(owner: &str) -> Self {
        Self(Key::root("owner").text(owner))
    }

    /// As listed below a folder.
    pub(super) fn listed(segment: &str) -> Self {
        Self(Key::root("owner").listed(segment))
    }

    fn below(&self, folder: &'static str) -> Key {
        Key::root(folder).listed(self.segment())
    }

    /// The segment itself.
    pub(super) fn segment(&self) -> &str {
        self.0.as_str().trim_start_matches("owner/")
    }

    pub(super) fn records(&self) -> Key {
        self.below("records")
    }

    pub(super) fn record(&self, id: &str) -> Key {
        self.records().text(id)
    }

    pub(super) fn originals(&self) -> Key {
        self.below("originals")
    }

    pub(super) fn manifest(&self, id: &str) -> Key {
        self.below("variants").text(id).dot("manifest")
    }

    pub(super) fn variant(&self, id: &str, encoding: Encoding) -> Key {
        self.below("variants").text(id).dot(encoding.as_str())
    }

    pub(super) fn public(&self, id: &str) -> Key {
        public_owners(id).listed(self.segment())
    }

    pub(super) fn named(&self, name: &str) -> Key {
        self.below("names").text(name)
    }

    pub(super) fn stable(&self, name: &str) -> Key {
        self.below("stable").text(name)
    }

    pub(super) fn tagged(&self, tag: &str) -> Key {
        self.below("tags").text(tag)
    }
}

/// The folder of those who have published these bytes.
pub(super) fn public_owners(id: &str) -> Key {
    Key::root("public").text(id)
}

impl Record {
    /// Where its bytes are.
    pub(super) fn original(&self, owner: &OwnerKey) -> Key {
        owner.originals().text(&self.id).dot(&self.blob)
    }

    pub(super) fn is_public(&self) -> bool {
        self.visibility == Visibility::Public
    }
}

impl Manifest {
    /// The form of an encoding.
    #[must_use]
    pub fn variant(&self, encoding: Encoding) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.encoding == encoding)
    }
}

impl Inner {
    pub(super) async fn record(&self, owner: &OwnerKey, id: &str) -> Result<Option<Record>, Error> {
        if !is_id(id) {
            return Ok(None);
        }
        self.json(&owner.record(id)).await
    }

    pub(super) async fn manifest(&self, owner: &OwnerKey, id: &str) -> Result<Option<Manifest>, Error> {
        self.json(&owner.manifest(id)).await
    }

    /// Reads a small object of ours.
    pub(super) async fn json<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, Error> {
        let Some(object) = self.count(self.storage.read(key, None).await)? else { return Ok(None) };
        let bytes = self.count(object.collect().await)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::Damaged { what: key.to_string() })
    }
}

/// Whether a text is an id: 64 lower-case hex digits.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A small object of ours, as bytes.
pub(super) fn to_json(value: &impl Serialize) -> Result<bytes::Bytes, Error> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::Damaged { what: e.to_string() })?;
    Ok(bytes.into())
}
