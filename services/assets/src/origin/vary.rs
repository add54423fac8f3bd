//! `Vary`: which request a stored response answers (RFC 9111, section 4.1).
//!
//! The origin sees no header of a client but those that a response of its named here: so nothing that is not part of the
//! key can have any part in what is stored.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

/// Headers that one response may vary on.
const MAX_NAMES: usize = 8;

/// Longest value that selects a response, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// Headers that tell persons apart, or that ask for a part of a response: what varies on them is not for others.
const REFUSED: [HeaderName; 9] = [
    header::COOKIE,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// The headers by which a response was selected, and the values that they had in its request, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Selection(Vec<(String, Option<String>)>);

impl Selection {
    /// What of a request selects this response; `None` when the response answers no other request than its own.
    ///
    /// `Accept-Encoding` is left out: the origin is always asked for the bytes as they are. So is `Host`, which is always
    /// the origin's.
    #[must_use]
    pub fn of(response: &HeaderMap, request: &HeaderMap) -> Option<Self> {
        let mut names = Vec::new();
        for line in response.get_all(header::VARY) {
            for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                // `*` is a token as well, so it is looked for first.
                let name = (name != "*").then(|| HeaderName::try_from(name).ok()).flatten()?;
                if REFUSED.contains(&name) {
                    return None;
                }
                if name != header::ACCEPT_ENCODING && name != header::HOST {
                    names.push(name);
                }
            }
        }
        Self::by(names, request)
    }

    /// The values of these headers in a request; `None` when there are too many of them, or too long ones.
    #[must_use]
    pub fn by(mut names: Vec<HeaderName>, request: &HeaderMap) -> Option<Self> {
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let values = names.iter().map(|name| Some((name.to_string(), value(request, name)?)));
        let values: Vec<_> = values.collect::<Option<_>>()?;
        (values.len() <= MAX_NAMES).then_some(Self(values))
    }

    /// Whether a request selects the same.
    #[must_use]
    pub fn fits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, wanted)| value(request, name).is_some_and(|value| value == *wanted))
    }

    /// The headers by which it selects.
    pub fn names(&self) -> impl Iterator<Item = HeaderName> {
        self.0.iter().filter_map(|(name, _)| HeaderName::try_from(name).ok())
    }

    /// As headers of a request.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let present = self.0.iter().filter_map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.as_ref()?).ok()?))
        });
        present.collect()
    }
}

/// All lines of a header as one, spaces around commas evened out; the inner `None` when there is none, the outer when it
/// is too long or no text.
#[allow(clippy::option_option)] // absent and unusable are different things
fn value(request: &HeaderMap, name: impl header::AsHeaderName) -> Option<Option<String>> {
    let mut lines = request.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Some(None);
    }
    let mut parts = Vec::new();
    for line in lines {
        parts.extend(line.to_str().ok()?.split(',').map(|part| part.trim().to_owned()));
    }
    let joined = parts.join(", ");
    (joined.len() <= MAX_VALUE_BYTES).then_some(Some(joined))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn selection(vary: &[&str], request: &[(&str, &str)]) -> Option<Selection> {
        let vary: Vec<_> = vary.iter().map(|line| ("vary", *line)).collect();
        Selection::of(&headers(&vary), &headers(request))
    }

    #[test]
    fn a_response_answers_requests_with_the_same_values_only() {
        let german =
            selection(&["Accept-Language, Accept-Encoding"], &[("accept-language", "de,en")]).unwrap();
        assert!(german.fits(&headers(&[("accept-language", "de , en"), ("accept-encoding", "br")])));
        assert!(german.fits(&headers(&[("accept-language", "de"), ("accept-language", "en")])));
        assert!(!german.fits(&headers(&[("accept-language", "en,de")])));
        assert!(!german.fits(&HeaderMap::new()));
        let any = selection(&["accept-language"], &[]).unwrap();
        assert!(any.fits(&HeaderMap::new()) && !any.fits(&headers(&[("accept-language", "de")])));
        assert!(selection(&[], &[]).unwrap().fits(&headers(&[("accept-language", "de")])));
        assert_eq!(selection(&["accept-encoding", "host"], &[]), Some(Selection::default()));
    }

    #[test]
    fn what_is_for_nobody_else_is_refused() {
        for vary in [
            "*",
            "accept, *",
            "Cookie",
            "x, Authorization",
            "Range",
            "if-none-match",
            "a b",
            "a,b,c,d,e,f,g,h,i",
        ] {
            assert_eq!(selection(&[vary], &[]), None, "{vary}");
        }
        assert_eq!(selection(&["accept"], &[("accept", &"x".repeat(MAX_VALUE_BYTES + 1))]), None);
    }

    #[test]
    fn the_origin_is_sent_what_selects() {
        let selected = selection(&["accept, x-flag"], &[("accept", "image/avif"), ("x-other", "1")]).unwrap();
        assert_eq!(selected.headers(), headers(&[("accept", "image/avif")]));
        assert_eq!(selected.names().collect::<Vec<_>>(), ["accept", "x-flag"]);
    }

    proptest! {
        #[test]
        fn a_request_selects_its_own_response_and_what_selects_alike_is_equal(
            first in "[a-c, ]{0,4}", second in "[a-c, ]{0,4}",
        ) {
            let (one, other) = (headers(&[("accept", &first)]), headers(&[("accept", &second)]));
            let vary = headers(&[("vary", "accept")]);
            let selection = Selection::of(&vary, &one).unwrap();
            prop_assert!(selection.fits(&one));
            prop_assert_eq!(selection.fits(&other), Selection::of(&vary, &other).unwrap() == selection.clone());
            prop_assert!(selection.fits(&selection.headers()));
        }
    }
}
