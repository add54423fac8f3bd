//! Which encoding to send: `Accept-Encoding` (RFC 9110, section 12.5.3).

use http::{HeaderMap, header};

use crate::{catalog::Manifest, compress::Encoding};

/// Quality values are counted in thousandths, the smallest step there is.
const MAX_QUALITY: u16 = 1000;

/// The encoding to send of those there are: the one liked best, of equally liked ones the smallest.
///
/// Without the header the bytes are sent as they are: whoever understands a coding says so. So are they when nothing there
/// is acceptable, which tells a client more than an error would.
#[must_use]
pub fn negotiate(headers: &HeaderMap, manifest: &Manifest) -> Encoding {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    let available: Vec<_> =
        manifest.variants.iter().map(|variant| (variant.encoding, variant.size_bytes)).collect();
    choose(&lines, &available)
}

fn choose(lines: &[&str], available: &[(Encoding, u64)]) -> Encoding {
    let wishes: Vec<(&str, u16)> = lines.iter().flat_map(|line| line.split(',')).filter_map(wish).collect();
    let liked = |encoding: Encoding| -> u16 {
        let named =
            wishes.iter().filter(|(coding, _)| names(coding, encoding)).map(|(_, quality)| *quality).max();
        let any = || wishes.iter().filter(|(coding, _)| *coding == "*").map(|(_, quality)| *quality).max();
        named.or_else(any).unwrap_or(0)
    };
    available
        .iter()
        .filter(|(encoding, _)| liked(*encoding) > 0)
        .max_by_key(|(encoding, size)| (liked(*encoding), std::cmp::Reverse(*size)))
        .map_or(Encoding::Identity, |(encoding, _)| *encoding)
}

fn names(coding: &str, encoding: Encoding) -> bool {
    coding.eq_ignore_ascii_case(encoding.as_str())
        || (encoding == Encoding::Gzip && coding.eq_ignore_ascii_case("x-gzip"))
}

/// A coding and how much it is liked; `None` when that cannot be understood.
fn wish(text: &str) -> Option<(&str, u16)> {
    let (coding, parameter) = text.split_once(';').unwrap_or((text, "q=1"));
    let (key, value) = parameter.trim().split_once('=')?;
    let coding = coding.trim();
    let known = !coding.is_empty() && key.trim().eq_ignore_ascii_case("q");
    known.then_some(())?;
    Some((coding, quality(value.trim())?))
}

/// `0`, `1`, or up to three digits after the point.
fn quality(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{digits:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(MAX_QUALITY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &[(Encoding, u64)] =
        &[(Encoding::Identity, 100), (Encoding::Br, 40), (Encoding::Zstd, 45), (Encoding::Gzip, 50)];

    #[test]
    fn the_best_liked_wins_and_then_the_smallest() {
        for (header, expected) in [
            ("gzip, deflate, br, zstd", Encoding::Br),
            ("gzip, deflate, br", Encoding::Br),
            ("gzip, zstd", Encoding::Zstd),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("GZIP;Q=0.5", Encoding::Gzip),
            ("br;q=0.5, gzip;q=0.8", Encoding::Gzip),
            ("br;q=0, *", Encoding::Zstd),
            ("*", Encoding::Br),
            ("*;q=0", Encoding::Identity),
            ("identity, br;q=0.9", Encoding::Identity),
            ("identity;q=0", Encoding::Identity),
            ("identity;q=0.5, gzip;q=0.001", Encoding::Identity),
            ("gzip;q=0.001", Encoding::Gzip),
            ("deflate", Encoding::Identity),
            ("", Encoding::Identity),
            ("br;q=2", Encoding::Identity),
            ("br;q=0.1234", Encoding::Identity),
            ("br;level=9", Encoding::Identity),
            ("br;q=1.000", Encoding::Br),
            ("  br ; q = 0.5 ", Encoding::Br),
        ] {
            assert_eq!(choose(&[header], ALL), expected, "{header}");
        }
        assert_eq!(choose(&[], ALL), Encoding::Identity);
        assert_eq!(choose(&["gzip", "br"], ALL), Encoding::Br);
        assert_eq!(choose(&["br, gzip"], &[(Encoding::Identity, 9), (Encoding::Gzip, 8)]), Encoding::Gzip);
    }

    fn any_header() -> impl Strategy<Value = String> {
        let coding = prop_oneof!["br", "zstd", "gzip", "identity", "\\*", "deflate", "[a-z]{1,4}"];
        let item =
            (coding, 0_u16..=1000).prop_map(|(coding, q)| format!("{coding};q={}.{:03}", q / 1000, q % 1000));
        prop::collection::vec(item, 0..6).prop_map(|items| items.join(", "))
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_there_and_nothing_there_is_liked_better(header in any_header(), there in prop::sample::subsequence(ALL, 1..=4)) {
            let mut there = there;
            if !there.iter().any(|(encoding, _)| *encoding == Encoding::Identity) {
                there.push(ALL[0]);
            }
            let chosen = choose(&[&header], &there);
            prop_assert!(there.iter().any(|(encoding, _)| *encoding == chosen));
            let wishes: Vec<_> = header.split(',').filter_map(wish).collect();
            let liked = |encoding: Encoding| {
                let best = |coding: &str| wishes.iter().filter(|(c, _)| *c == coding).map(|(_, q)| *q).max();
                best(encoding.as_str()).or_else(|| best("*")).unwrap_or(0)
            };
            for (encoding, _) in &there {
                prop_assert!(liked(*encoding) <= liked(chosen), "{header}: {encoding:?} over {chosen:?}");
            }
        }

        #[test]
        fn a_refused_coding_is_never_sent(header in any_header(), refused in prop::sample::select(vec!["br", "zstd", "gzip"])) {
            let header = format!("{}, {refused};q=0", header.replace(refused, "deflate"));
            prop_assert_ne!(choose(&[&header], ALL).as_str(), refused);
        }

        #[test]
        fn nothing_crashes(header in ".{0,60}") {
            choose(&[&header], ALL);
        }
    }
}
