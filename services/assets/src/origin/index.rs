//! What is kept, in memory: found by URL and request, bounded in bytes, the longest unused first to go. No I/O.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, HeaderName};

use super::object::Object;

/// Objects of one URL that differ in what selects them; one more replaces the oldest.
const MAX_SELECTIONS: usize = 16;

/// URLs in all, whatever their bytes.
const MAX_URLS: usize = 200_000;

/// How full it is after an eviction, in percent: then the next one is not at once.
const AFTER_EVICTION_PERCENT: u64 = 95;

/// The objects.
#[derive(Debug)]
pub struct Index {
    urls: HashMap<String, Entry>,
    bytes: u64,
    max_bytes: u64,
    clock: u64,
}

#[derive(Debug, Default)]
struct Entry {
    objects: Vec<Arc<Object>>,
    used: u64,
}

impl Index {
    /// An empty one of at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self { urls: HashMap::new(), bytes: 0, max_bytes, clock: 0 }
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is anything of a URL.
    #[must_use]
    pub fn holds(&self, url: &str) -> bool {
        self.urls.contains_key(url)
    }

    /// The object that answers a request, the newest if several do. It counts as used.
    pub fn find(&mut self, url: &str, request: &HeaderMap) -> Option<Arc<Object>> {
        self.clock += 1;
        let entry = self.urls.get_mut(url)?;
        entry.used = self.clock;
        let fitting = entry.objects.iter().filter(|object| object.selection.fits(request));
        fitting.max_by_key(|object| object.timing.received_at).cloned()
    }

    /// The headers that select among the objects of a URL.
    #[must_use]
    pub fn names(&self, url: &str) -> Vec<HeaderName> {
        self.objects(url).iter().flat_map(|object| object.selection.names()).collect()
    }

    /// The objects of a URL.
    #[must_use]
    pub fn objects(&self, url: &str) -> &[Arc<Object>] {
        self.urls.get(url).map_or(&[], |entry| &entry.objects)
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.urls.values().flat_map(|entry| &entry.objects)
    }

    /// Adds an object; gives those it replaces.
    pub fn insert(&mut self, object: Arc<Object>) -> Vec<Arc<Object>> {
        self.clock += 1;
        let entry = self.urls.entry(object.url.clone()).or_default();
        entry.used = self.clock;
        let mut replaced: Vec<_> =
            entry.objects.extract_if(.., |other| other.selection == object.selection).collect();
        if entry.objects.len() >= MAX_SELECTIONS {
            replaced.push(entry.objects.remove(0));
        }
        self.bytes += object.cost_bytes();
        entry.objects.push(object);
        self.bytes -= cost(&replaced);
        replaced
    }

    /// Exchanges the object of a fetch for what `change` makes of it; gives that. `None` when it is gone.
    pub fn change(&mut self, url: &str, blob: &str, change: impl FnOnce(&mut Object)) -> Option<Arc<Object>> {
        let objects = &mut self.urls.get_mut(url)?.objects;
        let object = objects.iter_mut().find(|object| object.blob == blob)?;
        let mut changed = Object::clone(object);
        change(&mut changed);
        self.bytes = self.bytes - object.cost_bytes() + changed.cost_bytes();
        *object = Arc::new(changed);
        Some(object.clone())
    }

    /// Removes the object of a fetch.
    pub fn remove_one(&mut self, url: &str, blob: &str) -> Option<Arc<Object>> {
        let objects = &mut self.urls.get_mut(url)?.objects;
        let at = objects.iter().position(|object| object.blob == blob)?;
        let removed = objects.remove(at);
        if objects.is_empty() {
            self.urls.remove(url);
        }
        self.bytes -= removed.cost_bytes();
        Some(removed)
    }

    /// Removes all of a URL.
    pub fn remove(&mut self, url: &str) -> Vec<Arc<Object>> {
        let removed = self.urls.remove(url).map_or(Vec::new(), |entry| entry.objects);
        self.bytes -= cost(&removed);
        removed
    }

    /// Removes what was not used the longest until the rest fits; gives the objects, by URL.
    pub fn evict(&mut self) -> Vec<(String, Vec<Arc<Object>>)> {
        if self.bytes <= self.max_bytes && self.urls.len() <= MAX_URLS {
            return Vec::new();
        }
        let (max_bytes, max_urls) =
            (self.max_bytes / 100 * AFTER_EVICTION_PERCENT, MAX_URLS / 100 * AFTER_EVICTION_PERCENT as usize);
        let mut by_use: Vec<_> = self.urls.iter().map(|(url, entry)| (entry.used, url.clone())).collect();
        by_use.sort_unstable();
        let mut evicted = Vec::new();
        for (_, url) in by_use {
            if self.bytes <= max_bytes && self.urls.len() <= max_urls {
                break;
            }
            let objects = self.remove(&url);
            evicted.push((url, objects));
        }
        evicted
    }
}

fn cost(objects: &[Arc<Object>]) -> u64 {
    objects.iter().map(|object| object.cost_bytes()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::header;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        catalog::{Manifest, Variant},
        compress::Encoding,
        origin::{freshness::Timing, object::Place, vary::Selection},
    };

    fn request(accept: &str) -> HeaderMap {
        [(header::ACCEPT, accept.parse().unwrap())].into_iter().collect()
    }

    fn object(url: &str, blob: &str, accept: Option<&str>, size_bytes: u64) -> Arc<Object> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let identity =
            Variant { encoding: Encoding::Identity, optimized: false, size_bytes, etag: "e".into() };
        let selection = accept.map_or(Selection::default(), |accept| {
            Selection::by(vec![header::ACCEPT], &request(accept)).unwrap()
        });
        Arc::new(Object {
            url: url.into(),
            selection,
            headers: HeaderMap::new(),
            timing: Timing { requested_at: at, received_at: at },
            blob: blob.into(),
            forms: Manifest { version: 1, variants: vec![identity] },
            precompressed: false,
            place: Place::Store,
        })
    }

    #[test]
    fn an_object_answers_what_selects_it_and_replaces_its_like() {
        let mut index = Index::new(1 << 30);
        assert!(index.insert(object("u", "1", Some("image/avif"), 10)).is_empty());
        assert!(index.insert(object("u", "2", Some("image/png"), 10)).is_empty());
        assert_eq!(index.find("u", &request("image/avif")).unwrap().blob, "1");
        assert!(index.find("u", &request("image/gif")).is_none() && index.find("v", &request("")).is_none());
        let replaced = index.insert(object("u", "3", Some("image/avif"), 20));
        assert_eq!(replaced.iter().map(|object| &*object.blob).collect::<Vec<_>>(), ["1"]);
        assert_eq!(index.find("u", &request("image/avif")).unwrap().blob, "3");
        assert_eq!(index.names("u"), ["accept", "accept"]);
        for n in 0..MAX_SELECTIONS {
            index.insert(object("u", "x", Some(&format!("text/{n}")), 10));
        }
        assert_eq!(index.objects("u").len(), MAX_SELECTIONS);
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let mut index = Index::new(3 * 5000);
        for url in ["a", "b", "c"] {
            index.insert(object(url, url, None, 800));
        }
        assert!(index.evict().is_empty());
        index.find("a", &HeaderMap::new());
        index.insert(object("d", "d", None, 800));
        let evicted: Vec<_> = index.evict().into_iter().map(|(url, _)| url).collect();
        assert_eq!(evicted, ["b", "c"], "down to 95 %");
        assert!(index.holds("a") && index.holds("d"));
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_what_is_there_and_never_too_many(
            steps in prop::collection::vec((0_u8..5, 0_u8..6, 0_u8..3, 0_u64..20_000), 1..60),
        ) {
            let mut index = Index::new(50_000);
            for (what, url, accept, size) in steps {
                let (url, accept) = (url.to_string(), accept.to_string());
                match what {
                    0 | 1 => drop(index.insert(object(&url, &accept, Some(&accept), size))),
                    2 => drop(index.remove(&url)),
                    3 => drop(index.remove_one(&url, &accept)),
                    _ => drop(index.change(&url, &accept, |object| object.add_form(Encoding::Br, &[0; 99]))),
                }
                index.evict();
                prop_assert_eq!(index.bytes(), index.all().map(|object| object.cost_bytes()).sum::<u64>());
                prop_assert!(index.bytes() <= 50_000);
                prop_assert!(index.urls.values().all(|entry| !entry.objects.is_empty()));
            }
        }
    }
}
