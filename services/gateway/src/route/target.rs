//! What becomes of a request's target: where its client is sent, or what its backend is asked for.

use std::borrow::Cow;

use http::{Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;

use super::View;
use crate::config::{Redirect, Route};

/// Something that stands for a route's path, or for the prefix that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Replacement {
    /// So many bytes of the path.
    matched: Option<usize>,
    by: String,
}

impl Replacement {
    fn new(route: &Route, by: &str) -> Self {
        // An exact path is replaced whole.
        let matched = match &route.path {
            Some(_) => None,
            None => Some(route.path_prefix.as_ref().map_or(1, String::len)),
        };
        Self { matched, by: by.to_owned() }
    }

    fn apply(&self, path: &str) -> String {
        let rest = self.matched.and_then(|matched| path.get(matched..)).unwrap_or_default();
        format!("{}{rest}", self.by)
    }
}

/// What of a request is written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewriting {
    /// What the backend is asked for as its host.
    pub host: Option<String>,
    path: Option<Replacement>,
}

impl Rewriting {
    pub(super) fn new(route: &Route) -> Self {
        let path = route.rewrite.path.as_ref().map(|by| Replacement::new(route, by));
        Self { host: route.rewrite.host.clone(), path }
    }

    /// The same for calls below a prefix that go to servers whose API begins elsewhere.
    pub(crate) fn rebased(&self, prefix: &str, base: &str, host: Option<&str>) -> Self {
        let path = (prefix != base).then(|| Replacement { matched: Some(prefix.len()), by: base.to_owned() });
        Self { host: host.map(str::to_owned).or_else(|| self.host.clone()), path }
    }

    /// The path and query that the backend is asked for, if they are others.
    #[must_use]
    pub fn path_and_query(&self, uri: &Uri) -> Option<PathAndQuery> {
        let path = self.path.as_ref()?.apply(&normalised(uri.path()));
        with_query(&path, uri).parse().ok()
    }
}

fn with_query(path: &str, uri: &Uri) -> String {
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// Where clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// The status of the answer.
    pub status: u16,
    scheme: Option<String>,
    host: Option<String>,
    path: Option<Replacement>,
}

impl Redirection {
    pub(super) fn new(route: &Route, redirect: &Redirect) -> Self {
        Self {
            status: redirect.status,
            scheme: redirect.scheme.clone(),
            host: redirect.host.clone(),
            path: redirect.path.as_ref().map(|by| Replacement::new(route, by)),
        }
    }

    /// The value of `Location`: a path alone where only that is another.
    #[must_use]
    pub fn location(&self, view: View<'_>, uri: &Uri, scheme: &str) -> String {
        let path = self.path.as_ref().map_or_else(|| view.path.to_owned(), |path| path.apply(view.path));
        // A client takes what follows two slashes at the beginning for a host.
        let target = with_query(&format!("/{}", path.trim_start_matches(['/', '\\'])), uri);
        match (&self.scheme, &self.host) {
            (None, None) => target,
            (given, None) => format!("{}://{}{target}", given.as_deref().unwrap_or(scheme), view.host),
            (given, Some(host)) => format!("{}://{host}{target}", given.as_deref().unwrap_or(scheme)),
        }
    }
}

/// Whether a path is what it looks like: without `.` and `..` segments, plain or encoded, which would lead around the
/// route that its beginning matches.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    if !path.contains("/.") && !path.contains(['%', '\\']) {
        return true;
    }
    let decoded = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    // Some servers cut parameters off before they look: `..;x`.
    let name = |segment: &str| segment.split(';').next().is_some_and(|name| name == "." || name == "..");
    !decoded.split(['/', '\\']).any(name)
}

/// The path as servers have it that decode all of it, and take backslashes for slashes; `None` where that is the same.
#[must_use]
pub fn decoded(path: &str) -> Option<String> {
    if !path.contains(['%', '\\']) {
        return None;
    }
    let text = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    let mut joined = String::with_capacity(text.len());
    for next in text.chars().filter(|next| *next != '\0') {
        if next != '/' || !joined.ends_with('/') {
            joined.push(next);
        }
    }
    Some(joined)
}

/// A path as it is matched: what needs no encoding is decoded (RFC 3986 §6.2.2.2), and slashes in a row are one, as most
/// servers take them. What is sent on stays as it came, unless it is written anew.
#[must_use]
pub fn normalised(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let hex = rest.strip_prefix('%').and_then(|rest| rest.get(..2));
        // Not `+1`, which is a number too.
        let hex = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let decoded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (next, length) = match decoded {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => (char::from(byte), 3),
            Some(byte) => {
                // One way to write it (§6.2.2.1).
                normal.push_str(&format!("%{byte:02X}"));
                rest = rest.get(3..).unwrap_or_default();
                continue;
            }
            None => (first, first.len_utf8()),
        };
        if next != '/' || !normal.ends_with('/') {
            normal.push(next);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Cow::Owned(normal)
}
