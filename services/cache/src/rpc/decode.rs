//! From messages to values that are known to be right, or to errors that name every wrong field.

use std::{
    fmt::{Arguments, Display},
    ops::RangeInclusive,
    time::Duration,
};

use weft_mesh::error::FieldViolation;
use weft_proto::cache::v1 as proto;

use crate::{
    error::Error,
    group::{Entity, GroupError},
    key::Key,
    store::{Item, Lease},
    ttl,
};

const COUNT: RangeInclusive<usize> = 1..=256;

/// What the configuration allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest value.
    pub(crate) max_value_bytes: usize,
    /// The time to live of values without one.
    pub(crate) default_ttl: Duration,
}

/// What is wrong with a request.
#[derive(Default)]
struct Problems(Vec<FieldViolation>);

/// The key of a request for one.
pub(super) fn key(text: &str) -> Result<Key, Error> {
    let mut problems = Problems::default();
    let key = problems.check(format_args!("key"), Key::parse(text));
    problems.none_or(key)
}

/// The keys of a request for several.
pub(super) fn keys(texts: &[String]) -> Result<Vec<Key>, Error> {
    let mut problems = Problems::default();
    problems.check(format_args!("keys"), count(texts.len()));
    let parse = |(at, text): (usize, &String)| problems.check(format_args!("keys[{at}]"), Key::parse(text));
    let keys = texts.iter().take(*COUNT.end()).enumerate().filter_map(parse).collect();
    problems.none_or(Some(keys))
}

/// The keys of a declared group.
pub(super) fn group(request: &proto::InvalidateRequest) -> Result<Vec<Key>, Error> {
    let entity = match request.entity() {
        proto::Entity::Unspecified => Err("must be a user, a chat, a model or a document"),
        proto::Entity::User => Ok(Entity::User),
        proto::Entity::Chat => Ok(Entity::Chat),
        proto::Entity::Model => Ok(Entity::Model),
        proto::Entity::Document => Ok(Entity::Document),
    };
    let mut problems = Problems::default();
    let keys = problems.check(format_args!("entity"), entity).and_then(|entity| {
        match entity.keys(&request.id, &request.owner) {
            Ok(keys) => Some(keys),
            Err(GroupError::Id(problem)) => problems.check(format_args!("id"), Err(problem)),
            Err(GroupError::Owner(problem)) => problems.check(format_args!("owner"), Err(problem)),
        }
    });
    problems.none_or(keys)
}

impl Limits {
    /// One value to store.
    pub(super) fn item(&self, request: proto::SetRequest) -> Result<Item, Error> {
        let mut problems = Problems::default();
        let item = self.checked(&mut problems, format_args!(""), request);
        problems.none_or(item)
    }

    /// Several values to store.
    pub(super) fn items(&self, entries: Vec<proto::SetRequest>) -> Result<Vec<Item>, Error> {
        let mut problems = Problems::default();
        problems.check(format_args!("entries"), count(entries.len()));
        let check = |(at, entry)| self.checked(&mut problems, format_args!("entries[{at}]."), entry);
        let items = entries.into_iter().take(*COUNT.end()).enumerate().filter_map(check).collect();
        problems.none_or(Some(items))
    }

    /// A value to store under a lease.
    pub(super) fn fill(&self, request: proto::FillRequest) -> Result<(Item, Lease), Error> {
        let mut problems = Problems::default();
        let lease = <[u8; Lease::BYTES]>::try_from(&request.lease[..]).map(Lease).map_err(|_| {
            format!(
                "has {} bytes; a miss gives one of {}, to be returned as it is",
                request.lease.len(),
                Lease::BYTES
            )
        });
        let entry = proto::SetRequest { key: request.key, value: request.value, ttl: request.ttl };
        let item = self.checked(&mut problems, format_args!(""), entry);
        let lease = problems.check(format_args!("lease"), lease);
        problems.none_or(item.zip(lease))
    }

    /// A value to store, in a message whose path is `prefix`.
    fn checked(
        &self,
        problems: &mut Problems,
        prefix: Arguments<'_>,
        entry: proto::SetRequest,
    ) -> Option<Item> {
        let key = problems.check(format_args!("{prefix}key"), Key::parse(&entry.key));
        let value = problems.check(format_args!("{prefix}value"), self.size(entry.value.len()));
        let ttl = problems.check(format_args!("{prefix}ttl"), self.ttl(entry.ttl));
        Some(Item { key: key?, value: value.map(|()| entry.value)?, ttl: ttl? })
    }

    fn size(&self, bytes: usize) -> Result<(), String> {
        if bytes <= self.max_value_bytes {
            return Ok(());
        }
        Err(format!("has {bytes} bytes; at most {} are allowed", self.max_value_bytes))
    }

    fn ttl(&self, ttl: Option<prost_types::Duration>) -> Result<Duration, String> {
        let Some(prost_types::Duration { seconds, nanos }) = ttl else { return Ok(self.default_ttl) };
        match (u64::try_from(seconds), u32::try_from(nanos)) {
            (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => {
                ttl::check(Duration::new(seconds, nanos)).map_err(|problem| problem.to_string())
            }
            (Ok(_), Ok(_)) => {
                Err(format!("is no duration: it has {nanos} nanoseconds; 0 to 999999999 are allowed"))
            }
            _ => Err(format!("must be at least 1s, is {seconds}s and {nanos}ns")),
        }
    }
}

impl Problems {
    /// The value, or its problem noted under the field's path.
    fn check<T, E: Display>(&mut self, field: Arguments<'_>, result: Result<T, E>) -> Option<T> {
        let note = |problem: E| self.0.push(FieldViolation::new(field.to_string(), problem.to_string()));
        result.map_err(note).ok()
    }

    /// The value, if nothing is wrong.
    fn none_or<T>(self, value: Option<T>) -> Result<T, Error> {
        value.filter(|_| self.0.is_empty()).ok_or(Error::Invalid(self.0))
    }
}

fn count(elements: usize) -> Result<(), String> {
    if COUNT.contains(&elements) {
        return Ok(());
    }
    Err(format!("has {elements} elements; {} to {} are allowed", COUNT.start(), COUNT.end()))
}
