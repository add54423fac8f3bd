//! What is known from every source of a pool, and the list that follows from it.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use tokio_util::sync::{CancellationToken, DropGuard};
use weft_balance::{Backend, Desired, Origin};

use super::{Kind, Target};

/// Where a target is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Config,
    File,
}

/// Names a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) address: String,
}

/// A backend behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    /// What was resolved to it; nothing for a literal address.
    pub(super) host: Option<String>,
    /// Of an SRV record.
    pub(super) weight: Option<u32>,
    /// Of an SRV record: its priority among the others.
    pub(super) tier: Option<u8>,
}

/// The targets of a pool in their order, those of the file last.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// The file has not been read yet.
    awaited: bool,
    file_error: Option<String>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    weight: u32,
    tier: u8,
    origin: Origin,
    found: Vec<Found>,
    answered: bool,
    error: Option<String>,
    /// Ends the lookups of a name.
    _stop: Option<DropGuard>,
}

impl Table {
    pub(super) const fn new(has_file: bool) -> Self {
        Self { entries: Vec::new(), awaited: has_file, file_error: None }
    }

    /// Replaces the targets of a place, keeping what is known of those that stay. Returns the names to look up from now
    /// on, and what ends that.
    pub(super) fn set(
        &mut self,
        place: Place,
        targets: Vec<Target>,
        stopping: &CancellationToken,
    ) -> Vec<(Key, CancellationToken)> {
        let (mut here, mut entries): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| entry.key.place == place);
        let mut names = Vec::new();
        for target in targets {
            let known = here.iter().position(|entry| entry.key.address == target.address);
            let entry = match known.map(|at| here.swap_remove(at)) {
                Some(entry) => Entry { weight: target.weight, tier: target.tier, ..entry },
                None => Entry::new(place, target, stopping, &mut names),
            };
            entries.push(entry);
        }
        entries.sort_by_key(|entry| entry.key.place == Place::File);
        self.entries = entries;
        if place == Place::File {
            (self.awaited, self.file_error) = (false, None);
        }
        names
    }

    /// Notes why the file could not be read.
    pub(super) fn fail(&mut self, error: String) {
        (self.awaited, self.file_error) = (false, Some(error));
    }

    /// Takes the answer for a name, if it is still wanted. Returns whether its error is news.
    pub(super) fn found(&mut self, key: &Key, answer: Result<Vec<Found>, String>) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == *key) else { return false };
        entry.answered = true;
        let error = match answer {
            Ok(found) => {
                entry.found = found;
                None
            }
            Err(error) => Some(error),
        };
        let news = entry.error != error;
        entry.error = error;
        news
    }

    pub(super) fn error(&self, key: &Key) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == *key)?.error.as_deref()
    }

    /// All errors, in words.
    pub(super) fn errors(&self) -> String {
        let names = self.entries.iter().filter_map(|entry| Some((entry, entry.error.as_ref()?)));
        let names = names.map(|(entry, error)| format!("{}: {error}", entry.key.address));
        self.file_error.iter().cloned().chain(names).collect::<Vec<_>>().join("; ")
    }

    /// Whether every source has been heard once.
    pub(super) fn is_settled(&self) -> bool {
        !self.awaited && self.entries.iter().all(|entry| entry.answered)
    }

    /// Whether it is all as written in the configuration: nothing is found.
    pub(super) fn is_literal(&self) -> bool {
        !self.awaited && self.entries.iter().all(|entry| entry.origin == Origin::Config)
    }

    /// What the backends of the list are called, by address; those that have no name are left out.
    pub(super) fn names(&self) -> HashMap<String, String> {
        let found = self.entries.iter().flat_map(|entry| &entry.found);
        let mut names = HashMap::new();
        for found in found {
            if let Some(host) = &found.host {
                names.entry(found.address.to_string()).or_insert_with(|| host.clone());
            }
        }
        names
    }

    /// The list that follows; the first to name an address decides its weight.
    pub(super) fn desired(&self) -> Vec<Desired> {
        let backends = self.entries.iter().flat_map(|entry| {
            entry.found.iter().map(|found| Desired {
                address: found.address.to_string(),
                weight: found.weight.unwrap_or(entry.weight),
                tier: found.tier.unwrap_or(entry.tier),
                origin: entry.origin,
            })
        });
        backends.collect()
    }
}

impl Entry {
    fn new(
        place: Place,
        target: Target,
        stopping: &CancellationToken,
        names: &mut Vec<(Key, CancellationToken)>,
    ) -> Self {
        let kind = Kind::parse(&target.address);
        let key = Key { place, address: target.address };
        let mut entry = Self {
            key: key.clone(),
            weight: target.weight,
            tier: target.tier,
            origin: Origin::Discovered,
            found: Vec::new(),
            answered: true,
            error: None,
            _stop: None,
        };
        match kind {
            Some(Kind::Literal(address)) => {
                entry.found = vec![Found { address, host: None, weight: None, tier: None }];
                if place == Place::Config {
                    entry.origin = Origin::Config;
                }
            }
            Some(_) => {
                let stop = stopping.child_token();
                names.push((key, stop.clone()));
                (entry.answered, entry._stop) = (false, Some(stop.drop_guard()));
            }
            None => entry.error = Some("is not host:port".to_owned()),
        }
        entry
    }
}

/// A pool's list at one moment: addresses, each with weight and tier.
pub(super) type List = Vec<(String, (u32, u8))>;

/// Notes a pool's list.
pub(super) fn list(backends: &[Arc<Backend>]) -> List {
    let terms = |backend: &Arc<Backend>| (backend.weight(), backend.tier());
    backends.iter().map(|backend| (backend.address().to_owned(), terms(backend))).collect()
}

/// How a list became another one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    added: Vec<String>,
    removed: Vec<String>,
    altered: Vec<String>,
}

impl Change {
    pub(super) fn between(before: &List, after: &List) -> Self {
        let terms = |list: &List, address: &str| list.iter().find(|one| one.0 == address).map(|one| one.1);
        let missing = |of: &List, from: &List| {
            let missing = of.iter().filter(|one| terms(from, &one.0).is_none());
            missing.map(|one| one.0.clone()).collect()
        };
        let altered =
            after.iter().filter(|(address, now)| terms(before, address).is_some_and(|then| then != *now));
        let altered =
            altered.map(|(address, (weight, tier))| format!("{address} weight={weight} tier={tier}"));
        let altered = altered.collect();
        Self { added: missing(after, before), removed: missing(before, after), altered }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One line with the difference.
    pub(super) fn log(&self, pool: &str) {
        let [added, removed, altered] =
            [&self.added, &self.removed, &self.altered].map(|list| list.join(" "));
        tracing::info!(pool, added, removed, altered, "backends changed");
    }
}
