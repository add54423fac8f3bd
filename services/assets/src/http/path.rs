//! The paths of public assets.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path that never changes what it gives.
#[must_use]
pub fn by_hash(id: &str, name: &str) -> String {
    format!("/assets/{id}/{}", utf8_percent_encode(name, RESERVED))
}

/// The path of the newest of a name.
#[must_use]
pub fn by_name(owner: &str, name: &str) -> String {
    format!("/files/{}/{}", utf8_percent_encode(owner, RESERVED), utf8_percent_encode(name, RESERVED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind_stay_one_segment() {
        assert_eq!(by_hash("ab", "a b?c#d%.css"), "/assets/ab/a%20b%3Fc%23d%25.css");
        assert_eq!(by_name("me@example.com", "größe.png"), "/files/me%40example.com/gr%C3%B6%C3%9Fe.png");
        assert_eq!(by_name("a/b", "x"), "/files/a%2Fb/x");
    }
}
