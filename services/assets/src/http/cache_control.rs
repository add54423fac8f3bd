//! How long caches may keep what, and what else a browser must know of a body.

use crate::content::MediaType;

/// Kinds of URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Url {
    /// Under the hash of the content: never changes what it gives.
    Hash,
    /// Under a name: gives the newest.
    Stable,
}

/// The `Cache-Control` of a public asset.
#[must_use]
pub fn policy(url: Url, media_type: &MediaType) -> &'static str {
    match url {
        // Data of an API is asked about each time; it may be stored, so that asking is cheap.
        _ if media_type.is_api_data() => "no-cache",
        Url::Hash => "public, max-age=31536000, immutable",
        Url::Stable => "public, max-age=3600",
    }
}

/// The `Cache-Control` of errors: what is missing now may be uploaded in a moment.
pub const ERRORS: &str = "no-store";

/// The `Content-Security-Policy` of what may run scripts: as a page of its own it runs none and has no origin.
#[must_use]
pub fn content_security_policy(media_type: &MediaType) -> Option<&'static str> {
    media_type.is_active().then_some("sandbox")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_table() {
        for (media_type, hash, stable) in [
            ("text/css", "public, max-age=31536000, immutable", "public, max-age=3600"),
            ("text/javascript", "public, max-age=31536000, immutable", "public, max-age=3600"),
            ("image/png", "public, max-age=31536000, immutable", "public, max-age=3600"),
            ("text/html", "public, max-age=31536000, immutable", "public, max-age=3600"),
            ("application/json", "no-cache", "no-cache"),
            ("application/ld+json", "no-cache", "no-cache"),
            ("application/x-ndjson", "no-cache", "no-cache"),
            ("application/xml", "no-cache", "no-cache"),
        ] {
            let media_type = MediaType::parse(media_type).unwrap();
            assert_eq!(policy(Url::Hash, &media_type), hash, "{media_type}");
            assert_eq!(policy(Url::Stable, &media_type), stable, "{media_type}");
        }
    }

    #[test]
    fn pages_are_sandboxed() {
        for (media_type, sandboxed) in [
            ("text/html", true),
            ("image/svg+xml", true),
            ("application/xhtml+xml", true),
            ("image/png", false),
        ] {
            let media_type = MediaType::parse(media_type).unwrap();
            assert_eq!(content_security_policy(&media_type).is_some(), sandboxed, "{media_type}");
        }
    }
}
