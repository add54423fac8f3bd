//! Preconditions (RFC 9110, section 13), for safe methods.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// What a representation is told apart by.
#[derive(Debug, Clone, Copy)]
pub struct Validators<'a> {
    /// Strong, without its quotes.
    pub etag: &'a str,
    /// To the second.
    pub modified: SystemTime,
}

/// What the preconditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answer the request.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wanted something else.
    Failed,
}

/// Evaluates all preconditions but `If-Range`, in the order of section 13.2.2.
#[must_use]
pub fn evaluate(headers: &HeaderMap, validators: &Validators<'_>) -> Verdict {
    match listed(headers, &header::IF_MATCH, validators.etag, Comparison::Strong) {
        Some(true) => {}
        Some(false) => return Verdict::Failed,
        None => {
            if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|date| validators.modified > date) {
                return Verdict::Failed;
            }
        }
    }
    match listed(headers, &header::IF_NONE_MATCH, validators.etag, Comparison::Weak) {
        Some(true) => Verdict::NotModified,
        Some(false) => Verdict::Proceed,
        None if date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|date| validators.modified <= date) => {
            Verdict::NotModified
        }
        None => Verdict::Proceed,
    }
}

/// Whether a `Range` counts: without `If-Range`, or when that names just this representation.
#[must_use]
pub fn range_applies(headers: &HeaderMap, validators: &Validators<'_>, now: SystemTime) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    if let Some(tag) = text.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return tag == validators.etag;
    }
    // A date is a strong validator only once nothing else can have happened in its second.
    let settled = now.duration_since(validators.modified).is_ok_and(|age| age >= Duration::from_secs(1));
    settled && httpdate::parse_http_date(text.trim()).is_ok_and(|date| date == validators.modified)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags holds one; `None` when there is no list.
fn listed(headers: &HeaderMap, name: &HeaderName, etag: &str, comparison: Comparison) -> Option<bool> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    Some(values.any(|value| value.to_str().is_ok_and(|list| holds(list, etag, comparison))))
}

fn holds(list: &str, etag: &str, comparison: Comparison) -> bool {
    let mut rest = list.trim();
    if rest == "*" {
        return true;
    }
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (is_weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some((tag, after)) = quoted.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
            return false;
        };
        if tag == etag && !(is_weak && comparison == Comparison::Strong) {
            return true;
        }
        rest = after;
    }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: u64 = 1_700_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn verdict(pairs: &[(&str, &str)]) -> Verdict {
        evaluate(&headers(pairs), &Validators { etag: "abc", modified: at(MODIFIED) })
    }

    #[test]
    fn entity_tags_are_compared_as_the_rfc_says() {
        for (name, value, expected) in [
            ("if-none-match", "\"abc\"", Verdict::NotModified),
            ("if-none-match", "W/\"abc\"", Verdict::NotModified),
            ("if-none-match", "\"x\", \"a,b\" ,W/\"abc\"", Verdict::NotModified),
            ("if-none-match", "*", Verdict::NotModified),
            ("if-none-match", "\"abd\"", Verdict::Proceed),
            ("if-none-match", "abc", Verdict::Proceed),
            ("if-none-match", "", Verdict::Proceed),
            ("if-match", "\"abc\"", Verdict::Proceed),
            ("if-match", "*", Verdict::Proceed),
            ("if-match", "W/\"abc\"", Verdict::Failed),
            ("if-match", "\"x\"", Verdict::Failed),
        ] {
            assert_eq!(verdict(&[(name, value)]), expected, "{name}: {value}");
        }
        assert_eq!(
            verdict(&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")]),
            Verdict::NotModified
        );
    }

    #[test]
    fn dates_count_only_without_tags() {
        let (before, same) =
            (httpdate::fmt_http_date(at(MODIFIED - 1)), httpdate::fmt_http_date(at(MODIFIED)));
        assert_eq!(verdict(&[("if-modified-since", &same)]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-modified-since", &before)]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-modified-since", "yesterday")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-modified-since", &same), ("if-none-match", "\"x\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-unmodified-since", &before)]), Verdict::Failed);
        assert_eq!(verdict(&[("if-unmodified-since", &same)]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-unmodified-since", &before), ("if-match", "\"abc\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "\"abc\""), ("if-none-match", "\"abc\"")]), Verdict::NotModified);
    }

    #[test]
    fn a_range_counts_only_for_the_same_representation() {
        let validators = Validators { etag: "abc", modified: at(MODIFIED) };
        let date = httpdate::fmt_http_date(at(MODIFIED));
        let applies =
            |value: &str, now| range_applies(&headers(&[("if-range", value)]), &validators, at(now));
        assert!(range_applies(&HeaderMap::new(), &validators, at(MODIFIED)));
        assert!(applies("\"abc\"", MODIFIED));
        assert!(!applies("W/\"abc\"", MODIFIED) && !applies("\"x\"", MODIFIED) && !applies("junk", MODIFIED));
        assert!(applies(&date, MODIFIED + 1) && !applies(&date, MODIFIED));
        assert!(!applies(&httpdate::fmt_http_date(at(MODIFIED + 5)), MODIFIED + 9));
    }
}
