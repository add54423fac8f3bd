//! Keyset pages: opaque tokens that name a place in one list of one caller.
//!
//! A token is the position of the last row and a checksum over it and its scope (the list, the owner, the filter), as
//! URL-safe base64. A token that was cut, edited, or made for another list is refused. It is no secret and grants
//! nothing: every query filters by owner whatever the token says.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::error::Error;

const CHECKSUM_BYTES: usize = 8;
const NUMBER_BYTES: usize = 8;

/// Where a page begins: after the row with these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first key of the order where it is a number: a time, a sequence.
    pub number: i64,
    /// The key that makes it unique: an id, a path.
    pub text: String,
}

impl Position {
    /// Before the first row of an ascending order by text.
    #[must_use]
    pub const fn lowest() -> Self {
        Self { number: 0, text: String::new() }
    }

    /// Before the first row of a descending order.
    #[must_use]
    pub const fn highest() -> Self {
        Self { number: i64::MAX, text: String::new() }
    }
}

/// What a caller asks for: how many rows, from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// At least 1.
    pub size: usize,
    /// Rows after this one.
    pub after: Position,
    /// Whether this is the first page in the default size: the one that is cached.
    pub is_default: bool,
}

/// Some rows in order, and where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The position of the last row; `None` on the last page.
    pub next: Option<Position>,
}

impl<T> Page<T> {
    /// Cuts what was read, one row more than asked for, to a page.
    pub fn cut(mut rows: Vec<T>, size: usize, position: impl Fn(&T) -> Position) -> Self {
        let more = rows.len() > size;
        rows.truncate(size);
        let next = rows.last().filter(|_| more).map(position);
        Self { rows, next }
    }
}

/// The scope of a list: tokens of one are refused in another.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The list's name.
    pub list: &'static str,
    /// Whose list; empty for lists that are everybody's.
    pub owner: &'a str,
    /// Its filter.
    pub filter: &'a str,
}

/// Limits of a list.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// When the caller says 0.
    pub default: i32,
    /// The most.
    pub max: i32,
}

/// Reads `page_size` and `page_token` of a request.
///
/// # Errors
/// Names the field that is malformed.
pub fn read(
    scope: Scope<'_>,
    sizes: Sizes,
    size: i32,
    token: &str,
    first: Position,
) -> Result<PageRequest, Error> {
    if !(0..=sizes.max).contains(&size) {
        return Err(Error::invalid("page_size", format!("must be 0 to {}, is {size}", sizes.max)));
    }
    let effective = if size == 0 { sizes.default } else { size };
    let after = if token.is_empty() { first } else { decode(scope, token)? };
    Ok(PageRequest {
        size: usize::try_from(effective).unwrap_or(1),
        after,
        is_default: token.is_empty() && effective == sizes.default,
    })
}

/// Writes a `next_page_token`; empty on the last page.
#[must_use]
pub fn write(scope: Scope<'_>, next: Option<&Position>) -> String {
    let Some(position) = next else { return String::new() };
    let mut bytes = position.number.to_be_bytes().to_vec();
    bytes.extend_from_slice(position.text.as_bytes());
    let sum = checksum(scope, &bytes);
    bytes.extend_from_slice(&sum);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(scope: Scope<'_>, token: &str) -> Result<Position, Error> {
    let malformed = || Error::invalid("page_token", "is malformed, or of another list");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
    let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(malformed)?;
    let (payload, sum) = bytes.split_at(split);
    if checksum(scope, payload) != *sum {
        return Err(malformed());
    }
    let (number, text) = payload.split_first_chunk::<NUMBER_BYTES>().ok_or_else(malformed)?;
    let text = String::from_utf8(text.to_vec()).map_err(|_| malformed())?;
    Ok(Position { number: i64::from_be_bytes(*number), text })
}

fn checksum(scope: Scope<'_>, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Sha256::new();
    for part in [scope.list, scope.owner, scope.filter] {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(payload);
    let digest = hash.finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZES: Sizes = Sizes { default: 50, max: 200 };

    fn scope<'a>(owner: &'a str, filter: &'a str) -> Scope<'a> {
        Scope { list: "chats", owner, filter }
    }

    #[test]
    fn page_sizes_are_checked() {
        let size = |n| read(scope("a", ""), SIZES, n, "", Position::highest());
        assert_eq!(size(0).unwrap().size, 50);
        assert!(size(0).unwrap().is_default && size(50).unwrap().is_default && !size(51).unwrap().is_default);
        assert!(size(-1).unwrap_err().to_string().starts_with("page_size"));
        assert!(size(201).unwrap_err().to_string().starts_with("page_size"));
    }

    #[test]
    fn a_token_of_another_list_owner_or_filter_is_refused() {
        let position = Position { number: 7, text: "x".into() };
        let token = write(scope("a", "f"), Some(&position));
        assert_eq!(decode(scope("a", "f"), &token).unwrap(), position);
        for other in
            [scope("b", "f"), scope("a", ""), scope("af", ""), Scope { list: "users", ..scope("a", "f") }]
        {
            assert!(decode(other, &token).is_err(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn tokens_come_back_as_they_went(number: i64, text in ".{0,40}") {
            let position = Position { number, text };
            let token = write(scope("a", ""), Some(&position));
            prop_assert_eq!(decode(scope("a", ""), &token).unwrap(), position);
        }

        #[test]
        fn any_text_is_refused_with_the_fields_name(token in ".{1,80}") {
            let error = read(scope("a", ""), SIZES, 0, &token, Position::highest()).unwrap_err();
            prop_assert!(error.to_string().starts_with("page_token"));
        }

        #[test]
        fn a_changed_token_is_refused(number: i64, at in 0_usize..20, with in "[A-Za-z0-9_-]") {
            let mut token = write(scope("a", ""), Some(&Position { number, text: "id".into() }));
            let at = at % token.len();
            prop_assume!(token[at..=at] != with);
            token.replace_range(at..=at, &with);
            prop_assert!(decode(scope("a", ""), &token).is_err());
        }
    }
}
