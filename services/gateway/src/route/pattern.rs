//! What a route asks of a request, and which of two that match counts more.

use http::HeaderName;

use super::{View, normalised};
use crate::config::Route;

/// gRPC services.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Service {
    Exact(String),
    Prefix(String),
}

impl Service {
    pub(super) fn new(pattern: &str) -> Self {
        pattern
            .strip_suffix('*')
            .map_or_else(|| Self::Exact(pattern.to_owned()), |prefix| Self::Prefix(prefix.to_owned()))
    }

    pub(super) fn matches(&self, service: &str) -> bool {
        match self {
            Self::Exact(name) => name == service,
            Self::Prefix(prefix) => service.starts_with(prefix),
        }
    }

    /// The longer, then the exact.
    pub(super) const fn rank(&self) -> (usize, bool) {
        match self {
            Self::Exact(name) => (name.len(), true),
            Self::Prefix(prefix) => (prefix.len(), false),
        }
    }
}

/// Hosts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Any,
    /// With the dot before it.
    Below(String),
    Exact(String),
}

impl Host {
    pub(super) fn new(pattern: Option<&str>) -> Self {
        let Some(pattern) = pattern else { return Self::Any };
        match pattern.strip_prefix('*') {
            Some(domain) => Self::Below(domain.to_owned()),
            None => Self::Exact(pattern.to_owned()),
        }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(domain) => {
                let tail = name.len().checked_sub(domain.len()).filter(|label| *label > 0);
                tail.and_then(|at| name.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(domain))
            }
            Self::Exact(host) => host.eq_ignore_ascii_case(name),
        }
    }

    /// An exact one, then the longer.
    pub(super) const fn rank(&self) -> (bool, usize) {
        match self {
            Self::Any => (false, 0),
            Self::Below(domain) => (false, domain.len()),
            Self::Exact(_) => (true, 0),
        }
    }
}

/// Paths.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Path {
    Exact(String),
    Prefix(String),
}

impl Path {
    pub(super) fn new(route: &Route) -> Self {
        match (&route.path, &route.path_prefix) {
            (Some(path), _) => Self::Exact(normalised(path).into_owned()),
            (None, prefix) => Self::Prefix(normalised(prefix.as_deref().unwrap_or("/")).into_owned()),
        }
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => path.starts_with(prefix),
        }
    }

    /// An exact one, then the longer.
    pub(super) const fn rank(&self) -> (bool, usize) {
        match self {
            Self::Exact(_) => (true, 0),
            Self::Prefix(prefix) => (false, prefix.len()),
        }
    }
}

/// Methods and headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Any when empty.
    methods: Vec<String>,
    headers: Vec<(HeaderName, Option<String>)>,
}

impl Wanted {
    pub(super) fn new(route: &Route) -> Self {
        // Validation has seen to it that the names are names.
        let header =
            |wanted: &crate::config::HeaderMatch| Some((wanted.name.parse().ok()?, wanted.value.clone()));
        Self { methods: route.methods.clone(), headers: route.headers.iter().filter_map(header).collect() }
    }

    pub(super) fn matches(&self, view: View<'_>) -> bool {
        let has = |(name, value): &(HeaderName, Option<String>)| {
            let mut values = view.headers.get_all(name).iter();
            match value {
                None => values.next().is_some(),
                Some(value) => values.any(|found| found.as_bytes() == value.as_bytes()),
            }
        };
        (self.methods.is_empty() || self.methods.iter().any(|method| method == view.method))
            && self.headers.iter().all(has)
    }

    /// With methods, then the more headers.
    pub(super) const fn rank(&self) -> (bool, usize) {
        (!self.methods.is_empty(), self.headers.len())
    }
}
