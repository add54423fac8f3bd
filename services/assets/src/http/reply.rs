//! Putting responses together.

use std::{ops::Range, time::Duration};

use axum::{body::Body, response::Response};
use futures::TryStreamExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    cache_control::{self, Url},
    conditional::Validators,
};
use crate::{compress::Encoding, content::MediaType, metrics::Metrics, storage::ByteStream};

/// What all responses of one representation have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) url: Url,
    pub(super) media_type: &'a MediaType,
    pub(super) encoding: Encoding,
    pub(super) validators: Validators<'a>,
}

impl Head<'_> {
    /// 200.
    pub(super) fn whole(&self, size: u64, body: Body) -> Response {
        let mut response = self.response(StatusCode::OK, body);
        self.describe(&mut response, size);
        response
    }

    /// 206.
    pub(super) fn part(&self, range: Range<u64>, size: u64, body: Body) -> Response {
        let mut response = self.response(StatusCode::PARTIAL_CONTENT, body);
        self.describe(&mut response, range.end - range.start);
        let content_range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        set(&mut response, header::CONTENT_RANGE, &content_range);
        response
    }

    /// 304.
    pub(super) fn not_modified(&self) -> Response {
        self.response(StatusCode::NOT_MODIFIED, Body::empty())
    }

    /// 412.
    pub(super) fn precondition_failed(&self) -> Response {
        let message = "the asset is not the one named by If-Match or If-Unmodified-Since";
        error(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", message, None)
    }

    /// 416.
    pub(super) fn unsatisfiable(&self, size: u64) -> Response {
        let message = format!("the asset has {size} bytes in this encoding");
        let mut response = error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_NOT_SATISFIABLE", &message, None);
        set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
        self.vary(&mut response);
        response
    }

    /// What a cache needs, in 304 as well.
    fn response(&self, status: StatusCode, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        set(&mut response, header::CACHE_CONTROL, cache_control::policy(self.url, self.media_type));
        set(&mut response, header::ETAG, &format!("\"{}\"", self.validators.etag));
        set(&mut response, header::LAST_MODIFIED, &httpdate::fmt_http_date(self.validators.modified));
        self.vary(&mut response);
        // Public bytes without identity: any page may use them, as it may any CDN's.
        set(&mut response, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        set(&mut response, HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
        response
    }

    /// What describes a body.
    fn describe(&self, response: &mut Response, length: u64) {
        set(response, header::CONTENT_TYPE, &self.media_type.header());
        set(response, header::CONTENT_LENGTH, &length.to_string());
        set(response, header::ACCEPT_RANGES, "bytes");
        set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if self.encoding != Encoding::Identity {
            set(response, header::CONTENT_ENCODING, self.encoding.as_str());
        }
        if let Some(policy) = cache_control::content_security_policy(self.media_type) {
            set(response, header::CONTENT_SECURITY_POLICY, policy);
        }
    }

    /// What is compressed for some is another thing for others, in every status.
    fn vary(&self, response: &mut Response) {
        if self.media_type.is_compressible() {
            set(response, header::VARY, "Accept-Encoding");
        }
    }
}

/// 404, for whatever is not public: whether it exists is nobody's business.
pub(super) fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "ASSET_NOT_FOUND", "no such asset", None)
}

/// 405.
pub(super) fn method_not_allowed() -> Response {
    let message = "assets are read by GET and HEAD";
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message, None);
    set(&mut response, header::ALLOW, "GET, HEAD");
    response
}

/// An error with a JSON body, never to be stored.
pub(crate) fn error(
    status: StatusCode,
    reason: &str,
    message: &str,
    retry_after: Option<Duration>,
) -> Response {
    let body = serde_json::json!({
        "error": { "status": status.as_u16(), "reason": reason, "message": message }
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "application/json");
    set(&mut response, header::CACHE_CONTROL, cache_control::ERRORS);
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(after) = retry_after {
        set(&mut response, header::RETRY_AFTER, &after.as_secs().max(1).to_string());
    }
    response
}

/// A body that is counted as it goes out.
pub(crate) fn body(bytes: ByteStream, metrics: Metrics) -> Body {
    Body::from_stream(bytes.inspect_ok(move |chunk| metrics.sent(chunk.len() as u64)))
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    // All values are of our making but the media type, which was checked to be printable when it came in.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
