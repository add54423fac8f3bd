//! Which origin a request is for, and the one URL there that it may reach.

use http::{HeaderMap, Uri, header};
use percent_encoding::percent_decode_str;
use reqwest::Url;

/// Longest path with its query, in bytes.
const MAX_PATH_BYTES: usize = 8 * 1024;

/// What a request is for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its path in its one spelling.
    pub path: String,
    /// Where that is at the origin.
    pub url: Url,
}

/// Why a request reaches no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTarget {
    /// No origin has this path and host.
    Unknown,
    /// The path climbs, or cannot be read.
    BadPath,
    /// The path is too long.
    TooLong,
    /// An origin leads back to this service.
    Loop,
}

impl Target {
    /// What is kept of it is kept under this.
    #[must_use]
    pub fn key(&self) -> &str {
        self.url.as_str()
    }
}

/// Whether a path is one of a configured prefix.
#[must_use]
pub fn is_below(prefix: &str, path: &str) -> bool {
    if prefix.ends_with('/') { path.starts_with(prefix) } else { path == prefix }
}

/// The host that a request is for, without its port, in lower case.
#[must_use]
pub fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let said = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let authority = uri.authority().map(http::uri::Authority::as_str).or(said).unwrap_or_default();
    let after_user = authority.rsplit('@').next().unwrap_or_default();
    let host = match after_user.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => after_user,
    };
    host.to_ascii_lowercase()
}

/// A path in its one spelling (RFC 3986, section 6.2.2): escapes that need not be are undone, others in upper case.
///
/// # Errors
/// When it has dot segments, however they are written, a backslash, a zero byte, or an escape that is none.
pub fn normalize(path: &str) -> Result<String, NoTarget> {
    if path.len() > MAX_PATH_BYTES {
        return Err(NoTarget::TooLong);
    }
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            push(&mut normal, byte, !byte.is_ascii_graphic());
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(NoTarget::BadPath) };
        let byte = u8::try_from(high * 16 + low).map_err(|_| NoTarget::BadPath)?;
        push(&mut normal, byte, !is_unreserved(byte));
    }
    let decoded: Vec<u8> = percent_decode_str(&normal).collect();
    let climbs = decoded.split(|b| matches!(b, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b".."));
    if climbs || decoded.contains(&0) || decoded.contains(&b'\\') {
        return Err(NoTarget::BadPath);
    }
    Ok(normal)
}

/// The URL at an origin of a normalized path. Its host, port and scheme are the origin's whatever the path is.
///
/// # Errors
/// When the URL would not be the one meant.
pub fn upstream(base: &Url, path: &str, query: Option<&str>) -> Result<Url, NoTarget> {
    let mut url = base.clone();
    let whole = format!("{}{path}", base.path().trim_end_matches('/'));
    url.set_path(&whole);
    url.set_query(query);
    let same = url.origin() == base.origin() && url.path().len() >= whole.len();
    if !same || url.as_str().len() > MAX_PATH_BYTES + base.as_str().len() {
        return Err(if same { NoTarget::TooLong } else { NoTarget::BadPath });
    }
    Ok(url)
}

fn push(normal: &mut String, byte: u8, escaped: bool) {
    if escaped {
        normal.push_str(&format!("%{byte:02X}"));
    } else {
        normal.push(char::from(byte));
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (path, normal) in [
            ("/static/app.js", "/static/app.js"),
            ("/static/%61pp%2ejs", "/static/app.js"),
            ("/static/a%2fb", "/static/a%2Fb"),
            ("/static/gr%c3%b6sse.png", "/static/gr%C3%B6sse.png"),
            ("/static/größe.png", "/static/gr%C3%B6%C3%9Fe.png"),
            ("/static/a+b@c", "/static/a+b@c"),
            ("/static/..a/.b/c..", "/static/..a/.b/c.."),
            ("/static/%252e%252e/x", "/static/%252e%252e/x"),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_climbs_or_cannot_be_read_is_refused() {
        for path in [
            "/static/../api",
            "/static/./x",
            "/static/..",
            "/static/.",
            "/static/%2e%2e/api",
            "/static/.%2E/api",
            "/static/..%2fapi",
            "/static/x%2f..%2f..%2fapi",
            "/static/..%5capi",
            "/static/..\\api",
            "/static/a\\b",
            "/static/%00",
            "/static/%",
            "/static/%4",
            "/static/%zz",
        ] {
            assert_eq!(normalize(path), Err(NoTarget::BadPath), "{path}");
        }
        assert_eq!(normalize(&format!("/{}", "x".repeat(MAX_PATH_BYTES))), Err(NoTarget::TooLong));
    }

    #[test]
    fn a_prefix_is_a_folder_or_one_path() {
        assert!(is_below("/static/", "/static/a/b.js") && is_below("/static/", "/static/"));
        assert!(!is_below("/static/", "/static") && !is_below("/static/", "/staticx/a"));
        assert!(
            is_below("/manifest.json", "/manifest.json") && !is_below("/manifest.json", "/manifest.json/x")
        );
    }

    #[test]
    fn the_host_is_told_without_its_port() {
        let host = |uri: &str, value: &str| {
            let headers = [(header::HOST, value.parse().unwrap())].into_iter().collect();
            host(&uri.parse().unwrap(), &headers)
        };
        assert_eq!(host("/x", "Chat.Example:8080"), "chat.example");
        assert_eq!(host("/x", "[::1]:80"), "[::1]");
        assert_eq!(host("http://chat.example/x", "other"), "chat.example", "the target's own counts");
    }

    proptest! {
        #[test]
        fn no_path_and_no_query_leave_the_origin_or_its_base(
            path in "/[!-~é]{0,40}", query in prop::option::of("[!-~]{0,30}"),
        ) {
            let base = Url::parse("http://origin.example:8080/base/").unwrap();
            let Ok(normal) = normalize(&path) else { return Ok(()) };
            prop_assert_eq!(normalize(&normal), Ok(normal.clone()), "normal is normal");
            let Ok(url) = upstream(&base, &normal, query.as_deref()) else { return Ok(()) };
            prop_assert_eq!(url.host_str(), Some("origin.example"));
            prop_assert_eq!(url.port(), Some(8080));
            prop_assert_eq!(url.scheme(), "http");
            prop_assert!(url.path().starts_with("/base/"), "{}", url);
            prop_assert!(url.username().is_empty() && url.fragment().is_none());
        }

        #[test]
        fn dots_are_refused_however_they_are_written(
            before in "[a-z]{0,3}", dots in prop::sample::select(vec!["..", "%2e.", ".%2E", "%2e%2e", ".", "%2E"]),
            slash in prop::sample::select(vec!["/", "%2f", "%2F", "%5c", "\\"]),
        ) {
            let path = format!("/{before}{slash}{dots}{slash}x");
            prop_assert_eq!(normalize(&path), Err(NoTarget::BadPath), "{}", path);
        }
    }
}
