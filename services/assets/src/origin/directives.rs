//! `Cache-Control` (RFC 9111, section 5.2, and RFC 5861).

use std::time::Duration;

use http::{HeaderMap, header};

/// The longest time that is told apart from longer ones (RFC 9111, section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// What a `Cache-Control` says, of what a shared cache asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directives {
    /// Nothing may be stored.
    pub no_store: bool,
    /// What is stored must be asked about each time. One that names fields counts as one that does not.
    pub no_cache: bool,
    /// Nothing may be stored by a cache that many share. One that names fields counts as one that does not.
    pub private: bool,
    /// What is stale must not be used: `must-revalidate` or `proxy-revalidate`.
    pub must_revalidate: bool,
    /// The bytes must stay as they are.
    pub no_transform: bool,
    /// The client wants what is stored or nothing.
    pub only_if_cached: bool,
    /// How long it is fresh.
    pub max_age: Option<Duration>,
    /// How long it is fresh to a shared cache.
    pub s_maxage: Option<Duration>,
    /// How long it may be used while it is fetched again.
    pub stale_while_revalidate: Option<Duration>,
    /// How long it may be used when that fails.
    pub stale_if_error: Option<Duration>,
}

impl Directives {
    /// Reads all lines of the header. What is unknown is passed over; a time that cannot be read is none at all, and of
    /// two the shorter counts.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            for item in items(&String::from_utf8_lossy(line.as_bytes())) {
                directives.take(item);
            }
        }
        directives
    }

    fn take(&mut self, item: &str) {
        let (name, argument) = item.split_once('=').unwrap_or((item, ""));
        let shorter =
            |old: Option<Duration>| Some(old.map_or(seconds(argument), |d| d.min(seconds(argument))));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "no-transform" => self.no_transform = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = shorter(self.max_age),
            "s-maxage" => self.s_maxage = shorter(self.s_maxage),
            "stale-while-revalidate" => self.stale_while_revalidate = shorter(self.stale_while_revalidate),
            "stale-if-error" => self.stale_if_error = shorter(self.stale_if_error),
            _ => {}
        }
    }
}

/// Splits at commas outside of quotes.
fn items(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    let split = move |c: char| {
        let comma = c == ',' && !quoted;
        (quoted, escaped) = match c {
            _ if escaped => (quoted, false),
            '\\' if quoted => (true, true),
            '"' => (!quoted, false),
            _ => (quoted, false),
        };
        comma
    };
    line.split(split).map(str::trim).filter(|item| !item.is_empty())
}

/// Digits, perhaps in quotes.
fn seconds(argument: &str) -> Duration {
    let digits = argument.trim().trim_matches('"');
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(digits.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CACHE_CONTROL, line.parse().unwrap());
        }
        Directives::of(&headers)
    }

    fn age(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn directives_are_read_in_any_case_order_and_number_of_lines() {
        let read = of(&["Public, MAX-AGE=60", "s-maxage=\"30\" ,no-transform, x=\"a, no-store\""]);
        let expected =
            Directives { max_age: age(60), s_maxage: age(30), no_transform: true, ..Default::default() };
        assert_eq!(read, expected);
        assert!(of(&["private=\"set-cookie, x\""]).private && of(&["no-cache=x"]).no_cache);
        assert!(of(&["proxy-revalidate"]).must_revalidate && of(&["must-revalidate"]).must_revalidate);
        assert_eq!(of(&["stale-if-error=5, stale-while-revalidate=6"]).stale_if_error, age(5));
        assert_eq!(of(&[]), Directives::default());
    }

    #[test]
    fn a_time_that_cannot_be_read_is_none_and_of_two_the_shorter_counts() {
        for (line, expected) in [
            ("max-age=", 0),
            ("max-age", 0),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age=soon", 0),
            ("max-age=99999999999999999999999", MOST_SECONDS),
            ("max-age=60, max-age=5", 5),
            ("max-age=5, max-age=60", 5),
            ("max-age=60, max-age=x", 0),
        ] {
            assert_eq!(of(&[line]).max_age, age(expected), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_forbids_is_found_among_anything(before in "[a-z=0-9 ,]{0,20}", after in "[a-z=0-9 ,]{0,20}") {
            let (one, other) = (format!("{before},no-store,{after}"), format!("{before}, Private ,{after}"));
            prop_assert!(of(&[&one]).no_store && of(&[&other]).private);
        }

        #[test]
        fn nothing_crashes(line in "[ -~]{0,60}") {
            let _ = of(&[&line]);
        }
    }
}
