//! A response that is kept, and what is written down of it.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    directives::Directives,
    freshness::{Freshness, Rules, Timing},
    vary::Selection,
};
use crate::{
    catalog::{Manifest, Variant},
    compress::Encoding,
    content::MediaType,
    optimize,
    storage::Key,
    upload::Received,
};

/// How records are written; those of another version are as good as none.
const VERSION: u32 = 1;

/// Hex digits of an etag of ours: half of the hash is far beyond any collision.
const ETAG_HEX: usize = 32;

/// What a response counts beside its bytes.
const OVERHEAD_BYTES: u64 = 4096;

/// A response with 200 to a GET, whole.
#[derive(Debug, Clone)]
pub struct Object {
    /// The URL it was fetched from.
    pub url: String,
    /// Which of its requests it answers.
    pub selection: Selection,
    /// The origin's headers but for those that are made anew for each who asks.
    pub headers: HeaderMap,
    /// When it was fetched, or last confirmed.
    pub timing: Timing,
    /// Which fetch its bytes are from: a UUID that tells when that was.
    pub blob: String,
    /// Its encodings, identity first.
    pub forms: Manifest,
    /// Whether all encodings that make it smaller are there.
    pub precompressed: bool,
    /// Where its bytes are.
    pub place: Place,
}

/// Where the bytes of an object are.
#[derive(Debug, Clone)]
pub enum Place {
    /// As they came in; on their way to the store.
    Spool(Arc<Received>),
    /// In the store.
    Store,
}

/// The objects of one URL, as written down.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    url: String,
    objects: Vec<Saved>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    selection: Selection,
    headers: Vec<(String, String)>,
    requested_at: Timestamp,
    received_at: Timestamp,
    blob: String,
    forms: Manifest,
    precompressed: bool,
}

impl Object {
    /// From what has come in. `headers` are those of the response.
    #[must_use]
    pub fn new(
        url: String,
        selection: Selection,
        headers: HeaderMap,
        timing: Timing,
        received: Received,
    ) -> Self {
        let mut headers = headers;
        if !headers.contains_key(header::DATE) {
            let date = httpdate::fmt_http_date(timing.received_at);
            headers.extend(HeaderValue::try_from(date).ok().map(|date| (header::DATE, date)));
        }
        let etag = strong_etag(&headers).unwrap_or_else(|| received.id.chars().take(ETAG_HEX).collect());
        let identity =
            Variant { encoding: Encoding::Identity, optimized: false, size_bytes: received.size, etag };
        Self {
            url,
            selection,
            headers,
            timing,
            blob: uuid::Uuid::now_v7().simple().to_string(),
            forms: Manifest { version: optimize::VERSION, variants: vec![identity] },
            precompressed: false,
            place: Place::Spool(Arc::new(received)),
        }
    }

    /// The same with one more encoding.
    pub fn add_form(&mut self, encoding: Encoding, bytes: &[u8]) {
        let etag = blake3::hash(bytes).to_hex().chars().take(ETAG_HEX).collect();
        let form = Variant { encoding, optimized: false, size_bytes: bytes.len() as u64, etag };
        self.forms.variants.push(form);
    }

    /// What it counts of the bytes that may be kept.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        OVERHEAD_BYTES + self.forms.variants.iter().map(|form| form.size_bytes).sum::<u64>()
    }

    /// Whether its bytes are in the store.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self.place, Place::Store)
    }

    /// Its times under the operator's rules of now.
    #[must_use]
    pub fn freshness(&self, rules: &Rules) -> Freshness {
        Freshness::of(&self.headers, self.timing, rules)
    }

    /// Whether content codings may make it smaller.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        let media_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|text| MediaType::parse(text).ok());
        media_type.is_some_and(|media_type| media_type.is_compressible())
            && !Directives::of(&self.headers).no_transform
    }

    /// Since when it is as it is: what `If-Modified-Since` is held against (RFC 9111, section 4.3.2).
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        let date = |name| httpdate::parse_http_date(self.headers.get(name)?.to_str().ok()?).ok();
        date(header::LAST_MODIFIED).or_else(|| date(header::DATE)).unwrap_or(self.timing.received_at)
    }

    /// Conditions for a request that asks whether it is still good; empty when it has no validator.
    #[must_use]
    pub fn conditions(&self) -> HeaderMap {
        let pairs =
            [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)];
        pairs.into_iter().filter_map(|(from, to)| Some((to, self.headers.get(from)?.clone()))).collect()
    }
}

impl Record {
    /// Of the objects of a URL whose bytes are stored; `None` when there are none.
    #[must_use]
    pub fn of(url: &str, objects: &[Arc<Object>]) -> Option<Self> {
        let objects: Vec<_> =
            objects.iter().filter(|object| object.is_stored()).map(|object| Saved::of(object)).collect();
        (!objects.is_empty()).then(|| Self { version: VERSION, url: url.to_owned(), objects })
    }

    /// The objects, if it was written as they are written now.
    #[must_use]
    pub fn objects(self) -> Vec<Object> {
        if self.version != VERSION {
            return Vec::new();
        }
        self.objects.into_iter().filter_map(|saved| saved.object(&self.url)).collect()
    }
}

impl Saved {
    fn of(object: &Object) -> Self {
        let time = |at: SystemTime| Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
        let headers = object.headers.iter();
        Self {
            selection: object.selection.clone(),
            headers: headers.map(|(name, value)| (name.to_string(), to_text(value.as_bytes()))).collect(),
            requested_at: time(object.timing.requested_at),
            received_at: time(object.timing.received_at),
            blob: object.blob.clone(),
            forms: object.forms.clone(),
            precompressed: object.precompressed,
        }
    }

    fn object(self, url: &str) -> Option<Object> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers
                .append(HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(&to_bytes(value)?).ok()?);
        }
        let timing = Timing { requested_at: self.requested_at.into(), received_at: self.received_at.into() };
        self.forms.variant(Encoding::Identity)?;
        Some(Object {
            url: url.to_owned(),
            selection: self.selection,
            headers,
            timing,
            blob: self.blob,
            forms: self.forms,
            precompressed: self.precompressed,
            place: Place::Store,
        })
    }
}

/// Hash of a URL, by which its objects are found in the store.
#[must_use]
pub fn name_of(url: &str) -> String {
    blake3::hash(url.as_bytes()).to_hex()[..ETAG_HEX].to_owned()
}

/// The folder of the record or bytes of a name: one of 16, so that none grows too large, and a sweep needs few calls.
fn shard(folder: &str, name: &str) -> Key {
    Key::root("origins").listed(folder).listed(name.get(..1).unwrap_or("0"))
}

/// Where the record of a URL is.
#[must_use]
pub fn record_key(name: &str) -> Key {
    shard("records", name).listed(name)
}

/// Where the bytes of an encoding are.
#[must_use]
pub fn bytes_key(url: &str, blob: &str, encoding: Encoding) -> Key {
    let name = name_of(url);
    shard("bytes", &name).listed(&name).dot(blob).dot(encoding.as_str())
}

/// The origin's strong `ETag`, without its quotes. A weak one says too little for ranges of bytes that we know exactly.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?.trim();
    let opaque = tag.strip_prefix('"')?.strip_suffix('"')?;
    (!opaque.contains('"') && opaque.len() <= 256).then(|| opaque.to_owned())
}

/// Header values need not be UTF-8: a character for each byte.
fn to_text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn to_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::upload::Upload;

    async fn object(headers: &[(&str, &str)], data: &[u8]) -> Object {
        let mut upload = Upload::new(std::env::temp_dir(), u64::MAX);
        upload.push(data).await.unwrap();
        let received = upload.finish().await.unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let timing = Timing { requested_at: at, received_at: at };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let selection = Selection::by(vec![header::ACCEPT], &HeaderMap::new()).unwrap();
        Object::new("http://origin/a.css".into(), selection, map, timing, received)
    }

    #[tokio::test]
    async fn a_strong_etag_is_the_origins_and_any_other_ours() {
        let ours = blake3::hash(b"body").to_hex()[..ETAG_HEX].to_owned();
        for (etag, expected) in
            [(Some("\"abc\""), "abc"), (Some("W/\"abc\""), &*ours), (Some("abc"), &*ours), (None, &*ours)]
        {
            let headers: Vec<_> = etag.map(|etag| ("etag", etag)).into_iter().collect();
            let object = object(&headers, b"body").await;
            assert_eq!(object.forms.variants[0].etag, expected, "{etag:?}");
            assert_eq!(object.conditions().get(header::IF_NONE_MATCH).map(|v| v.to_str().unwrap()), etag);
        }
    }

    #[tokio::test]
    async fn a_record_gives_back_what_was_written() {
        let mut object = object(&[("content-type", "text/css"), ("x-a", "1"), ("x-a", "2")], b"body").await;
        assert!(Record::of(&object.url, &[Arc::new(object.clone())]).is_none(), "its bytes are not stored");
        object.place = Place::Store;
        object.add_form(Encoding::Br, b"b");
        let record = Record::of(&object.url, &[Arc::new(object.clone())]).unwrap();
        let json = serde_json::to_string(&record).unwrap();
        let read = serde_json::from_str::<Record>(&json).unwrap().objects().pop().unwrap();
        assert_eq!((&read.url, &read.blob, &read.headers), (&object.url, &object.blob, &object.headers));
        assert_eq!((&read.selection, read.timing), (&object.selection, object.timing));
        assert_eq!((&read.forms, read.cost_bytes()), (&object.forms, 4096 + 4 + 1));
        let old = json.replace("\"version\":1", "\"version\":0");
        assert!(serde_json::from_str::<Record>(&old).unwrap().objects().is_empty());
    }

    #[tokio::test]
    async fn what_may_be_compressed() {
        for (headers, expected) in [
            (&[("content-type", "text/css")][..], true),
            (&[("content-type", "text/css"), ("cache-control", "no-transform")], false),
            (&[("content-type", "image/png")], false),
            (&[], false),
        ] {
            assert_eq!(object(headers, b"body").await.is_compressible(), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_text_and_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(to_bytes(&to_text(&bytes)), Some(bytes));
        }
    }
}
