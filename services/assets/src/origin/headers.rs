//! Which headers go on, to the origin and back (RFC 9110, section 7.6).

use http::{HeaderMap, HeaderName, HeaderValue, header};
use weft_mesh::{context::USER_HEADER, identity::IDENTITY_HEADER};

/// How this service calls itself in `Via`.
const PSEUDONYM: &str = "weft-assets";

/// From so many passages through services like this one a request goes in a circle.
const MAX_PASSAGES: usize = 4;

/// What is between two neighbours only.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What of a response is made anew for each who asks, or leads around this service.
const NOT_KEPT: [&str; 9] = [
    "age",
    "accept-ranges",
    "alt-svc",
    "cache-status",
    "content-encoding",
    "content-length",
    "content-range",
    "set-cookie",
    "trailer",
];

/// Removes what is between two neighbours, what `Connection` names included.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What of a response's headers is kept. The origin's `ETag` is among it, to ask with.
#[must_use]
pub fn kept(response: &HeaderMap) -> HeaderMap {
    let mut headers = response.clone();
    strip_hop_by_hop(&mut headers);
    for name in NOT_KEPT {
        headers.remove(name);
    }
    headers
}

/// The headers of a request that is passed on. `Host` becomes the origin's.
#[must_use]
pub fn passed(request: &HeaderMap) -> HeaderMap {
    let mut headers = request.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove(header::HOST);
    headers.remove(header::EXPECT);
    // Who calls is said to this service alone, and by it to nobody.
    let own: Vec<HeaderName> = headers.keys().filter(|name| is_of_mesh(name)).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    add_via(&mut headers);
    headers
}

/// Whether a header says who calls, in a spelling that some servers take for the same.
fn is_of_mesh(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name == USER_HEADER.as_str() || name == IDENTITY_HEADER.as_str()
}

/// Notes the passage through this service.
pub fn add_via(headers: &mut HeaderMap) {
    headers.append(header::VIA, HeaderValue::from_static("1.1 weft-assets"));
}

/// Whether a request has come through here so often that an origin must lead back here.
#[must_use]
pub fn goes_in_a_circle(request: &HeaderMap) -> bool {
    let lines = request.get_all(header::VIA).iter().filter_map(|line| line.to_str().ok());
    lines.map(|line| line.matches(PSEUDONYM).count()).sum::<usize>() >= MAX_PASSAGES
}

/// What a 304 says anew of a kept response (RFC 9111, section 3.2): everything but what describes the bytes.
#[must_use]
pub fn refreshed(kept_before: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut headers = kept_before.clone();
    let mut update = kept(not_modified);
    update.remove(header::CONTENT_TYPE);
    for name in update.keys() {
        headers.remove(name);
    }
    for (name, value) in &update {
        headers.append(name, value.clone());
    }
    headers
}

/// Whether a request says who asks. The origin is not told for what is kept, so that everybody can have it.
#[must_use]
pub fn is_personal(request: &HeaderMap) -> bool {
    request.contains_key(header::COOKIE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn who_calls_is_told_to_no_origin() {
        let said =
            [("weft-user", "ada"), ("weft_user", "ada"), ("weft-identity", "x"), ("weft_identity", "x")];
        let kept = [("authorization", "Bearer of-the.app"), ("weft-users", "1")];
        let sent = passed(&headers(&[&said[..], &kept[..]].concat()));
        assert!(kept.iter().all(|(name, _)| sent.contains_key(*name)), "{sent:?}");
        assert!(said.iter().all(|(name, _)| !sent.contains_key(*name)), "{sent:?}");
    }

    #[test]
    fn what_is_between_neighbours_goes_no_further() {
        let all = [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("host", "public.example"),
            ("cookie", "a=b"),
            ("x-other", "2"),
        ];
        let expected = headers(&[("cookie", "a=b"), ("x-other", "2"), ("via", "1.1 weft-assets")]);
        assert_eq!(passed(&headers(&all)), expected);
    }

    #[test]
    fn what_is_made_anew_is_not_kept() {
        let response = [
            ("content-type", "text/css"),
            ("etag", "\"1\""),
            ("age", "5"),
            ("set-cookie", "a=b"),
            ("content-length", "9"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("access-control-allow-origin", "*"),
        ];
        let expected =
            [("content-type", "text/css"), ("etag", "\"1\""), ("access-control-allow-origin", "*")];
        assert_eq!(kept(&headers(&response)), headers(&expected));
    }

    #[test]
    fn a_304_refreshes_all_but_what_describes_the_bytes() {
        let before = headers(&[
            ("content-type", "text/css"),
            ("cache-control", "max-age=1"),
            ("x-a", "1"),
            ("x-b", "1"),
        ]);
        let update = headers(&[
            ("content-type", "text/html"),
            ("cache-control", "max-age=2"),
            ("x-b", "2"),
            ("x-b", "3"),
            ("content-length", "0"),
            ("set-cookie", "a=b"),
        ]);
        let expected = headers(&[
            ("content-type", "text/css"),
            ("x-a", "1"),
            ("cache-control", "max-age=2"),
            ("x-b", "2"),
            ("x-b", "3"),
        ]);
        assert_eq!(refreshed(&before, &update), expected);
    }

    #[test]
    fn a_circle_is_noticed() {
        let mut request = headers(&[("via", "1.1 cdn, 1.1 weft-assets")]);
        for passages in 1..MAX_PASSAGES {
            assert!(!goes_in_a_circle(&request), "{passages}");
            add_via(&mut request);
        }
        assert!(goes_in_a_circle(&request));
    }
}
