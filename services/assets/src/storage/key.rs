//! Keys of objects: slash-separated segments that are safe as file names and as S3 keys.

use std::fmt;

/// Longest text that becomes a segment as it is.
const MAX_PLAIN: usize = 96;

/// Hex digits of the hash that stands for other text: 128 bits, so that whole keys stay far below what stores allow.
const HASH_HEX: usize = 32;

/// A key. Made of segments only, so that no text from outside can climb out of its folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The key of a folder at the top; `name` is a constant of ours.
    #[must_use]
    pub fn root(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The key below this one that stands for any text: the text itself where it is a plain lower-case name, else `=` and
    /// its hash, so that different texts never meet, not even on file systems that ignore case.
    #[must_use]
    pub fn text(&self, text: &str) -> Self {
        Self(format!("{}/{}", self.0, segment(text)))
    }

    /// The key below this one of a name that a listing of it gave.
    #[must_use]
    pub fn listed(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0))
    }

    /// The key of this one with a suffix of ours.
    #[must_use]
    pub fn dot(&self, suffix: &str) -> Self {
        debug_assert!(suffix.bytes().all(is_plain), "suffixes are ours and plain");
        Self(format!("{}.{suffix}", self.0))
    }

    /// As a relative path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn segment(text: &str) -> String {
    let plain = (1..=MAX_PLAIN).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(is_plain);
    if plain { text.to_owned() } else { format!("={}", &blake3::hash(text.as_bytes()).to_hex()[..HASH_HEX]) }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(Key::root("records").text("alice-7.b_c").as_str(), "records/alice-7.b_c");
        assert_eq!(Key::root("a").text("x").dot("br").as_str(), "a/x.br");
    }

    #[test]
    fn everything_else_becomes_a_hash() {
        for text in
            ["", ".", "..", ".hidden", "../up", "a/b", "Alice", "é", "a\0b", "a b", "=x", &"x".repeat(97)]
        {
            let key = Key::root("r").text(text);
            assert!(key.as_str().starts_with("r/=") && key.as_str().len() == 35, "{text:?} became {key}");
        }
        assert_ne!(Key::root("r").text("Alice"), Key::root("r").text("alice"));
    }
}
