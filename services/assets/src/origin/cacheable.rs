//! Whether a response may be kept, and for whom it is if not (RFC 9111, section 3).
//!
//! Beyond what the RFC asks, the media type must be one that the path's extension can have: applications of one page
//! answer a missing file with `index.html` and 200, and what is kept under a hashed name stays for a year.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::directives::Directives;
use crate::content::{Family, MediaType};

/// Most bytes that the headers of a kept response may have.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Why a response is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It says `no-store`.
    NoStore,
    /// It says `private`.
    Private,
    /// It sets a cookie.
    SetCookie,
    /// It varies on everything, or on what tells persons apart.
    Vary,
    /// It came in another encoding than was asked for.
    Encoded,
    /// Its end cannot be told from a connection that broke.
    Unframed,
    /// It is larger than what is kept, or its headers are.
    TooLarge,
    /// It is not 200.
    Status,
    /// Its media type is none that its path can have.
    ContentType,
    /// It could not be held while it came in.
    Spool,
    /// It takes longer to come in than anybody may wait, but it does.
    TooSlow,
}

impl Refusal {
    /// As the detail of a `Cache-Status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::Encoded => "content-encoding",
            Self::Unframed => "no-length",
            Self::TooLarge => "too-large",
            Self::Status => "status",
            Self::ContentType => "content-type",
            Self::Spool => "spool",
            Self::TooSlow => "too-slow",
        }
    }

    /// Whether those who wait for the same may have the response all the same: nothing in it is for one of them.
    #[must_use]
    pub fn is_for_all(self) -> bool {
        matches!(self, Self::Status | Self::ContentType)
    }

    /// Whether it says nothing of what was kept before: the reason is not in the response.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Spool | Self::TooSlow)
    }
}

/// Whether a response to a request without credentials may be kept.
///
/// # Errors
/// Why not.
pub fn check(path: &str, status: StatusCode, headers: &HeaderMap, max_bytes: u64) -> Result<(), Refusal> {
    // The origin's failure is for all who wait, whatever its error page says: else each would ask it once more.
    if is_out_of_order(status) {
        return Err(Refusal::Status);
    }
    let directives = Directives::of(headers);
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let encoding = headers.get(header::CONTENT_ENCODING);
    let encoded = encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    for (refused, refusal) in [
        (directives.no_store, Refusal::NoStore),
        (directives.private, Refusal::Private),
        (headers.contains_key(header::SET_COOKIE), Refusal::SetCookie),
        (encoded, Refusal::Encoded),
        (length.is_none() && !chunked, Refusal::Unframed),
        (length.is_some_and(|length| length > max_bytes), Refusal::TooLarge),
        (header_bytes > MAX_HEADER_BYTES, Refusal::TooLarge),
        (status != StatusCode::OK, Refusal::Status),
        (!fits(path, headers.get(header::CONTENT_TYPE)), Refusal::ContentType),
    ] {
        if refused {
            return Err(refusal);
        }
    }
    Ok(())
}

/// Whether an origin that answers so cannot answer now, and says nothing of what it has.
#[must_use]
pub fn is_out_of_order(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Whether a media type is one that the extension of a path can have. A name without one can have any but HTML, which is
/// what a missing file is answered with.
#[must_use]
pub fn fits(path: &str, content_type: Option<&HeaderValue>) -> bool {
    let Some(said) = content_type.and_then(|value| MediaType::parse(value.to_str().ok()?).ok()) else {
        return false;
    };
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let known = mime_guess::from_path(&name);
    let guessed = MediaType::of_name(&name);
    if known.is_empty() && guessed.family() == Family::Opaque {
        return said.family() != Family::Html;
    }
    let is_known = known.iter().any(|known| {
        let moving = matches!(known.type_().as_str(), "video" | "audio") && known.type_() == said.top_level();
        moving || known.essence_str() == said.essence()
    });
    is_known || alike(&guessed, &said)
}

/// Whether a media type is another name of an expected one, or what servers send that do not know it.
fn alike(expected: &MediaType, said: &MediaType) -> bool {
    let (kind, other) = (expected.family(), said.family());
    match kind {
        Family::Js | Family::Css | Family::Html | Family::Svg => kind == other,
        Family::Xml => matches!(other, Family::Xml | Family::Text),
        Family::Json => matches!(other, Family::Json | Family::Text) || said.is_unknown(),
        Family::Text => matches!(other, Family::Text | Family::Json) || said.is_unknown(),
        Family::Png | Family::Jpeg | Family::Known(_) | Family::Opaque => {
            let same_kind = expected.top_level() == said.top_level() && expected.top_level() != "application";
            // `application/font-woff2` and `application/x-font-ttf` are what `font/...` was before RFC 8081.
            let old_font = expected.top_level() == "font" && said.essence().contains("font");
            !other.is_text()
                && (expected.essence() == said.essence() || same_kind || old_font || said.is_unknown())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn type_fits(path: &str, content_type: &str) -> bool {
        fits(path, Some(&content_type.parse().unwrap()))
    }

    #[test]
    fn a_media_type_must_be_one_of_the_extension() {
        for (path, content_type) in [
            ("/a.js", "text/javascript"),
            ("/a.js", "application/javascript; charset=utf-8"),
            ("/a.mjs", "application/x-javascript"),
            ("/a.css", "text/css"),
            ("/a.JSON", "application/json"),
            ("/site.webmanifest", "application/manifest+json"),
            ("/site.webmanifest", "application/json"),
            ("/a.js.map", "application/json"),
            ("/a.js.map", "application/octet-stream"),
            ("/a.woff2", "font/woff2"),
            ("/a.woff2", "application/font-woff2"),
            ("/a.ttf", "application/x-font-ttf"),
            ("/a.woff2", "application/octet-stream"),
            ("/a.wasm", "application/wasm"),
            ("/a.wasm", "application/octet-stream"),
            ("/favicon.ico", "image/x-icon"),
            ("/favicon.ico", "image/vnd.microsoft.icon"),
            ("/a.jpg", "image/webp"),
            ("/a.svg", "image/svg+xml"),
            ("/a.html", "text/html"),
            ("/opensearch.xml", "application/opensearchdescription+xml"),
            ("/opensearch.xml", "text/xml"),
            ("/notes.md", "text/plain"),
            ("/code.ts", "text/plain"),
            ("/video.ts", "video/mp2t"),
            ("/LICENSE", "text/plain"),
            ("/a.unknownext", "application/octet-stream"),
        ] {
            assert!(type_fits(path, content_type), "{path} as {content_type}");
        }
    }

    #[test]
    fn the_page_that_stands_for_a_missing_file_fits_none() {
        for path in [
            "/a.js",
            "/a.mjs",
            "/a.css",
            "/a.json",
            "/a.woff2",
            "/a.png",
            "/a.jpg",
            "/a.svg",
            "/a.ico",
            "/a.wasm",
            "/a.js.map",
            "/a.txt",
            "/a.xml",
            "/a.webmanifest",
            "/a.pdf",
            "/a.unknownext",
            "/a",
            "/",
            "/a.ts",
            "/a.mp4",
        ] {
            assert!(!type_fits(path, "text/html; charset=utf-8"), "{path}");
            assert!(!type_fits(path, "application/xhtml+xml"), "{path}");
            assert!(!fits(path, None), "{path}");
        }
        for (path, content_type) in [
            ("/a.js", "text/plain"),
            ("/a.js", "application/json"),
            ("/a.js", "application/octet-stream"),
            ("/a.css", "text/javascript"),
            ("/a.png", "image/svg+xml"),
            ("/a.png", "text/plain"),
            ("/a.woff2", "image/png"),
            ("/a.html", "application/json"),
            ("/a.png", "no media type"),
        ] {
            assert!(!type_fits(path, content_type), "{path} as {content_type}");
        }
    }

    #[test]
    fn what_is_kept_and_why_not() {
        const CSS: (&str, &str) = ("content-type", "text/css");
        const SIZE: (&str, &str) = ("content-length", "10");
        for (status, pairs, expected) in [
            (200, &[CSS, SIZE][..], Ok(())),
            (200, &[CSS, ("transfer-encoding", "chunked")], Ok(())),
            (200, &[CSS, SIZE, ("cache-control", "no-cache")], Ok(())),
            (200, &[CSS, SIZE, ("content-encoding", "identity")], Ok(())),
            (200, &[CSS], Err(Refusal::Unframed)),
            (200, &[CSS, SIZE, ("cache-control", "no-store")], Err(Refusal::NoStore)),
            (200, &[CSS, SIZE, ("cache-control", "max-age=9, private")], Err(Refusal::Private)),
            (200, &[CSS, SIZE, ("set-cookie", "a=b")], Err(Refusal::SetCookie)),
            (200, &[CSS, SIZE, ("content-encoding", "gzip")], Err(Refusal::Encoded)),
            (200, &[CSS, ("content-length", "101")], Err(Refusal::TooLarge)),
            (200, &[("content-type", "text/html"), SIZE], Err(Refusal::ContentType)),
            (200, &[SIZE], Err(Refusal::ContentType)),
            (206, &[CSS, SIZE], Err(Refusal::Status)),
            (404, &[CSS, SIZE], Err(Refusal::Status)),
            (301, &[CSS, SIZE], Err(Refusal::Status)),
            (404, &[CSS, SIZE, ("set-cookie", "a=b")], Err(Refusal::SetCookie)),
            (503, &[CSS, SIZE, ("cache-control", "no-store")], Err(Refusal::Status)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(check("/site.css", status, &headers(pairs), 100), expected, "{status} {pairs:?}");
        }
        let long = headers(&[CSS, SIZE, ("x-long", &"x".repeat(MAX_HEADER_BYTES))]);
        assert_eq!(check("/site.css", StatusCode::OK, &long, 100), Err(Refusal::TooLarge));
    }

    proptest! {
        #[test]
        fn nothing_but_200_is_kept_and_nothing_that_is_someones(
            status in 200_u16..599, forbidden in prop::sample::select(vec![
                ("cache-control", "no-store"), ("cache-control", "private"), ("set-cookie", "a=b"), ("x-fine", "1"),
            ]),
        ) {
            let pairs = [("content-type", "text/css"), ("content-length", "1"), forbidden];
            let kept = check("/a.css", StatusCode::from_u16(status).unwrap(), &headers(&pairs), 100).is_ok();
            prop_assert_eq!(kept, status == 200 && forbidden.0 == "x-fine");
        }
    }
}
