//! Whether a file name looks like it holds a hash of the file's content: `index-BQ3wTqXc.js`, `main.3f2a91bc.css`.
//!
//! What is taken for hashed is kept by browsers for a year, and no purge reaches them. So this rather misses one hash in
//! four than takes a version, a date, a size, an id or a word for one; an origin whose names are all hashed says so with
//! `immutable = "always"`.

/// Fewest characters of a hash.
const FEWEST: usize = 8;

/// Most: those of SHA-512 in hex.
const MOST: usize = 128;

/// From this length on no words are made of hex digits.
const SURELY_HEX: usize = 16;

/// Hex digits of a MongoDB id: applications name what changes by it.
const OBJECT_ID_HEX: usize = 24;

/// Whether the file that a path names is called by a hash of its content.
#[must_use]
pub fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    if stem.is_empty() || extension.is_empty() || holds_uuid(stem) {
        return false;
    }
    let mut parts = stem.split('.');
    let first = parts.next().is_some_and(ends_in_hash);
    first || parts.any(|part| is_hash(part) || ends_in_hash(part))
}

/// `<name>-<hash>`.
fn ends_in_hash(part: &str) -> bool {
    let last = part.rsplit_once('-').is_some_and(|(name, hash)| !name.is_empty() && is_hash(hash));
    // Eight characters of base64url, as Vite and Rollup write them, may hold a dash of their own.
    let cut = part.len().saturating_sub(FEWEST);
    let own_dash = part.get(..cut).zip(part.get(cut..)).is_some_and(|(before, hash)| {
        before.len() > 1 && before.ends_with('-') && hash.contains(['-', '_']) && is_hash(hash)
    });
    last || own_dash
}

fn is_hash(text: &str) -> bool {
    if !(FEWEST..=MOST).contains(&text.len())
        || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    {
        return false;
    }
    let has = |class: Class| text.bytes().any(|b| Class::of(b) == class);
    let (digit, lower, upper) = (has(Class::Digit), has(Class::Lower), has(Class::Upper));
    let dashes = text.bytes().filter(|b| b"-_".contains(b)).count();
    if dashes > 0 && !(dashes == 1 && text.len() == FEWEST && lower && upper) {
        // Locales and versions have dashes too: `zh-Hans-CN`, `1.0.0-beta10`.
        return false;
    }
    let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && digit && lower;
    if hex && text.len() == OBJECT_ID_HEX {
        return false;
    }
    if hex {
        // `face2face` and `20240131a` are hex as well.
        return text.len() >= SURELY_HEX
            || longest_run(text, Class::Lower) <= 3 && longest_run(text, Class::Digit) <= 5;
    }
    let mixed = (digit && (lower || upper)) || (lower && upper);
    let longest = [Class::Digit, Class::Lower, Class::Upper].map(|class| longest_run(text, class));
    mixed && longest.iter().all(|run| *run <= 3) && words(text) * 2 >= text.len()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Digit,
    Lower,
    Upper,
    Other,
}

impl Class {
    fn of(byte: u8) -> Self {
        match byte {
            b'0'..=b'9' => Self::Digit,
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            _ => Self::Other,
        }
    }
}

fn longest_run(text: &str, class: Class) -> usize {
    text.as_bytes().split(|b| Class::of(*b) != class).map(<[u8]>::len).max().unwrap_or_default()
}

/// How many words, acronyms and numbers a text could be read as; a capital goes with the small letters after it.
fn words(text: &str) -> usize {
    let classes: Vec<Class> = text.bytes().map(Class::of).collect();
    let begins = |at: usize| {
        let (before, this) = (at.checked_sub(1).and_then(|at| classes.get(at)), classes.get(at));
        let next = classes.get(at + 1);
        match (before, this) {
            (_, Some(Class::Other)) => false,
            (Some(Class::Upper), Some(Class::Lower)) => false,
            (Some(Class::Upper), Some(Class::Upper)) => next == Some(&Class::Lower),
            (before, this) => before != this,
        }
    };
    (0..classes.len()).filter(|at| begins(*at)).count()
}

/// `8-4-4-4-12` hex digits at the end: something's id, which stays when the thing changes.
fn holds_uuid(stem: &str) -> bool {
    const LENGTHS: [usize; 5] = [12, 4, 4, 4, 8];
    let groups: Vec<&str> = stem.rsplit(['-', '_', '.']).take(LENGTHS.len()).collect();
    let hex = |group: &str| group.bytes().all(|b| b.is_ascii_hexdigit());
    groups.len() == LENGTHS.len()
        && groups.iter().zip(LENGTHS).all(|(group, length)| group.len() == length && hex(group))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_bundlers_are_hashed() {
        for name in [
            // webpack and its like: hex
            "main.3f2a91bc.js",
            "main.3f2a91bc.chunk.js",
            "style.0a1b2c3d4e5f60718293.css",
            "runtime~main.9f86d081.js.map",
            "logo.5d5d9eefa31e5e13a6610d9fa7a283bb.svg",
            "chunk-2d0c1f5e.js",
            "app-8843d7f92416211de9ebb963ff4ce28125932878.css",
            // Vite and Rollup: eight of base64url
            "index-BQ3wTqXc.js",
            "index-D4k9_aZx.css",
            "index-D4-k9aZx.js",
            "_page-BxTqXCLm.js",
            "start.CzJ2kPqV.js",
            "0.DqfEVxVk.js",
            "vendor-react-B1cD2eF3.js",
            // esbuild: base 32; Parcel: base 36
            "chunk-7QHJ3KL2.js",
            "app.7f3k2l9a.js",
        ] {
            assert!(is_hashed(&format!("/static/{name}")), "{name}");
        }
    }

    #[test]
    fn words_versions_dates_sizes_and_ids_are_not() {
        for name in [
            "jquery-3.7.1.min.js",
            "some-longword.js",
            "some.longword.js",
            "bootstrap.bundle.min.js",
            "polyfills-es2015.js",
            "chart-version2.js",
            "material-MaterialIcons.woff2",
            "font.RobotoCondensed.woff2",
            "report-20240131.pdf",
            "report-2024-01-31.pdf",
            "backup.20240131T1200.tar",
            "logo-1920x1080.png",
            "photo-1024x768.jpg",
            "icon-192.png",
            "bg-iPhone13.png",
            "logo-deadbeef.png",
            "logo-facade00.png",
            "game-face2face.js",
            "v-12345678.js",
            "v.1234567890123456.js",
            "app-1.0.0-beta10.js",
            "README-TRANSLATION.md",
            "avatar-550e8400-e29b-41d4-a716-446655440a0b.png",
            "550e8400-e29b-41d4-a716-4466554b0c0d.png",
            "avatar-507f1f77bcf86cd799439011.png",
            "messages.zh-Hans-CN.js",
            "messages.pt-BR-v2.js",
            "messages-zh-Hant-TW.json",
            "index.html",
            "3f2a91bc.js",
            "3f2a91bc",
            "main-3f2a91bc",
            "-3f2a91bc.js",
            "main.3f2a91b.js",
            ".3f2a91bc",
            "",
        ] {
            assert!(!is_hashed(&format!("/static/{name}")), "{name}");
        }
        assert!(!is_hashed("/main.3f2a91bc.js/version.json"), "only the file's name counts");
    }

    proptest! {
        #[test]
        fn no_word_number_or_camel_case_is_a_hash(
            name in "[a-z]{1,12}", word in "[a-z]{1,30}|[A-Z]{1,30}|[0-9]{1,30}|([A-Z][a-z]{3,9}){1,4}|[a-z]{4,9}[0-9]{1,4}",
        ) {
            let dashed = format!("/{name}-{word}.js");
            let dotted = format!("/{name}.{word}.js");
            prop_assert!(!is_hashed(&dashed), "{}", dashed);
            prop_assert!(!is_hashed(&dotted), "{}", dotted);
        }

        #[test]
        fn no_version_date_or_size_is_a_hash(
            version in "[0-9]{1,4}\\.[0-9]{1,3}\\.[0-9]{1,3}(-(alpha|beta|rc)\\.?[0-9]{0,2})?", date in "20[0-9]{2}-?[01][0-9]-?[0-3][0-9]",
            size in "[0-9]{1,4}x[0-9]{1,4}",
        ) {
            for text in [version, date, size] {
                let path = format!("/a-{text}.min.js");
                prop_assert!(!is_hashed(&path), "{}", path);
            }
        }

        #[test]
        fn long_hex_is_one(hash in "[0-9a-f]{32}|[0-9a-f]{64}") {
            prop_assert!(is_hashed(&format!("/a.{hash}.js")), "{}", hash);
        }

        #[test]
        fn nothing_crashes(path in "\\PC{0,40}") {
            let _ = is_hashed(&path);
        }
    }

    /// How many hashes are missed is part of the promise.
    #[test]
    fn three_of_four_hashes_are_found() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut found = [0, 0];
        for i in 0..2000_u64 {
            let bytes = *blake3::hash(&i.to_le_bytes()).as_bytes();
            let base64: String =
                bytes[..8].iter().map(|b| char::from(alphabet[usize::from(b % 64)])).collect();
            let hex: String = bytes[8..12].iter().map(|b| format!("{b:02x}")).collect();
            found[0] += usize::from(is_hashed(&format!("/index-{base64}.js")));
            found[1] += usize::from(is_hashed(&format!("/index.{hex}.js")));
        }
        assert!(found[0] > 1400 && found[1] > 1600, "of 2000 each: {found:?}");
    }
}
