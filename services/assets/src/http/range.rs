//! The `Range` header (RFC 9110, section 14).

use std::ops::Range;

/// What of a representation is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, several, or none that can be understood, which a server may ignore.
    Whole,
    /// These bytes, at least one of them.
    One(Range<u64>),
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Reads a header for a representation of `size` bytes.
#[must_use]
pub fn parse(header: &[u8], size: u64) -> Wanted {
    understood(header, size).unwrap_or(Wanted::Whole)
}

fn understood(header: &[u8], size: u64) -> Option<Wanted> {
    let (unit, set) = std::str::from_utf8(header).ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        return Some(match number(last)? {
            0 => Wanted::Unsatisfiable,
            // The last bytes of nothing are all of it.
            _ if size == 0 => Wanted::Whole,
            length => Wanted::One(size.saturating_sub(length)..size),
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    if first >= size {
        return Some(Wanted::Unsatisfiable);
    }
    Some(Wanted::One(first..last.min(size - 1) + 1))
}

/// Digits only; a number too large for us is larger than any asset.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cases_of_the_rfc() {
        for (header, size, wanted) in [
            ("bytes=0-499", 10_000, Wanted::One(0..500)),
            ("bytes=500-999", 10_000, Wanted::One(500..1000)),
            ("bytes=-500", 10_000, Wanted::One(9500..10_000)),
            ("bytes=9500-", 10_000, Wanted::One(9500..10_000)),
            ("BYTES = 0-0".trim(), 10, Wanted::One(0..1)),
            ("bytes=0-99999999999999999999999", 10, Wanted::One(0..10)),
            ("bytes=-99999999999999999999999", 10, Wanted::One(0..10)),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-1", 0, Wanted::Whole),
            ("bytes=5-4", 10, Wanted::Whole),
            ("bytes=0-0,2-3", 10, Wanted::Whole),
            ("items=0-1", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(parse(header.as_bytes(), size), wanted, "{header} of {size}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_range_is_within_the_bytes(header in ".{0,40}", size in 0_u64..1000) {
            if let Wanted::One(range) = parse(header.as_bytes(), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn a_proper_range_gives_just_its_bytes(first in 0_u64..200, length in 1_u64..200, size in 1_u64..200) {
            let last = first + length - 1;
            let expected: Vec<u64> = (0..size).filter(|at| (first..=last).contains(at)).collect();
            match parse(format!("bytes={first}-{last}").as_bytes(), size) {
                Wanted::One(range) => prop_assert_eq!(range.collect::<Vec<_>>(), expected),
                Wanted::Unsatisfiable => prop_assert!(expected.is_empty()),
                Wanted::Whole => prop_assert!(false, "ignored"),
            }
        }

        #[test]
        fn a_suffix_gives_the_last_bytes(length in 1_u64..300, size in 1_u64..200) {
            let wanted = parse(format!("bytes=-{length}").as_bytes(), size);
            prop_assert_eq!(wanted, Wanted::One(size - length.min(size)..size));
        }
    }
}
