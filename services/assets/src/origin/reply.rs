//! Responses to clients: from what is kept, from what is not, and when there is none.

use std::{ops::Range, sync::Arc, time::SystemTime};

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};

use super::{
    cacheable::Refusal,
    client::FetchError,
    directives::Directives,
    fetch::Answer,
    freshness::{Rules, is_immutable},
    headers,
    object::Object,
    store::Store,
    target::NoTarget,
};
use crate::{
    catalog::Variant,
    compress::Encoding,
    http::{
        conditional::{self, Validators, Verdict},
        range::Wanted,
        reply, variants, wanted,
    },
    metrics::Metrics,
    storage,
};

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The policy of what never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// What describes a body, and is not in a response without one.
const OF_A_BODY: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_LANGUAGE, header::CONTENT_DISPOSITION];

/// How a request was answered. The closed set of the metric's `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// From what is kept and fresh.
    Hit,
    /// From what is kept and stale.
    Stale,
    /// By a fetch.
    Miss,
    /// From what is kept, after the origin had confirmed it.
    Revalidated,
    /// By the origin itself.
    Pass,
    /// By an error of this service.
    Error,
}

impl Served {
    /// As a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Revalidated => "revalidated",
            Self::Pass => "pass",
            Self::Error => "error",
        }
    }
}

/// Why a request is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its method is neither GET nor HEAD.
    Method,
    /// It asks not to be answered from what is kept, or for its sender only.
    Request,
    /// Its response is not kept.
    Refused(Refusal),
    /// What is kept cannot be read.
    Store,
}

/// How a response came to be, as `Cache-Status` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account(pub(super) String);

impl Account {
    pub(super) fn hit(ttl: i64) -> Self {
        Self(format!("weft; hit; ttl={ttl}"))
    }

    pub(super) fn stale(ttl: i64, detail: &str) -> Self {
        Self(format!("weft; hit; ttl={ttl}; detail={detail}"))
    }

    pub(super) fn fetched(fwd: &str, status: u16, collapsed: bool) -> Self {
        let collapsed = if collapsed { "; collapsed" } else { "" };
        Self(format!("weft; fwd={fwd}; fwd-status={status}{collapsed}"))
    }

    pub(super) fn stored(self) -> Self {
        Self(format!("{}; stored", self.0))
    }

    pub(super) fn detail(self, detail: &str) -> Self {
        Self(format!("{}; detail={detail}", self.0))
    }

    pub(super) fn passed(why: Why, status: u16) -> Self {
        let (fwd, detail) = match why {
            Why::Method => ("method", None),
            Why::Request => ("request", None),
            Why::Refused(refusal) => ("miss", Some(refusal.as_str())),
            Why::Store => ("miss", Some("store")),
        };
        let account = Self::fetched(fwd, status, false);
        match detail {
            Some(detail) => account.detail(detail),
            None => account,
        }
    }

    /// Adds itself to what caches nearer to the origin have said.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(&self.0) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

/// What all responses from one encoding of a kept object have in common.
struct Head<'a> {
    object: &'a Object,
    form: &'a Variant,
    rules: &'a Rules,
    now: SystemTime,
    account: &'a Account,
}

/// The answer from a kept object; `None` when its bytes are gone.
pub(super) async fn from_object(
    store: &Store,
    metrics: &Metrics,
    object: &Arc<Object>,
    rules: &Rules,
    request: &Parts,
    account: &Account,
) -> storage::Result<Option<Response>> {
    let encoding = variants::negotiate(&request.headers, &object.forms);
    let Some(form) = object.forms.variant(encoding) else { return Ok(None) };
    let head = Head { object, form, rules, now: SystemTime::now(), account };
    let validators = Validators { etag: &form.etag, modified: object.modified() };
    match conditional::evaluate(&request.headers, &validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return Ok(Some(head.not_modified())),
        Verdict::Failed => return Ok(Some(head.precondition_failed())),
    }
    let range = match wanted(&request.method, &request.headers, &validators, form.size_bytes) {
        Wanted::Unsatisfiable => return Ok(Some(head.unsatisfiable())),
        Wanted::One(range) => Some(range),
        Wanted::Whole => None,
    };
    if request.method == Method::HEAD {
        return Ok(Some(head.whole(None, Body::empty())));
    }
    let Some(opened) = store.open(object, encoding, range.clone()).await? else { return Ok(None) };
    Ok(Some(head.whole(range, reply::body(opened.bytes, metrics.clone()))))
}

impl Head<'_> {
    /// 200, or 206 for a range.
    fn whole(&self, range: Option<Range<u64>>, body: Body) -> Response {
        let size = self.form.size_bytes;
        let mut response = self.response(StatusCode::OK, body);
        let length = range.as_ref().map_or(size, |range| range.end - range.start);
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        if self.form.encoding != Encoding::Identity {
            set(&mut response, header::CONTENT_ENCODING, self.form.encoding.as_str());
        }
        if let Some(range) = range {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let content_range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            set(&mut response, header::CONTENT_RANGE, &content_range);
        }
        response
    }

    /// 304.
    fn not_modified(&self) -> Response {
        let mut response = self.response(StatusCode::NOT_MODIFIED, Body::empty());
        for name in OF_A_BODY {
            response.headers_mut().remove(name);
        }
        response
    }

    /// 412.
    fn precondition_failed(&self) -> Response {
        let message = "the file is not the one named by If-Match or If-Unmodified-Since";
        let mut response =
            reply::error(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", message, None);
        self.account.add_to(response.headers_mut());
        response
    }

    /// 416.
    fn unsatisfiable(&self) -> Response {
        let message = format!("the file has {} bytes in this encoding", self.form.size_bytes);
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        let mut response = reply::error(status, "RANGE_NOT_SATISFIABLE", &message, None);
        set(&mut response, header::CONTENT_RANGE, &format!("bytes */{}", self.form.size_bytes));
        self.account.add_to(response.headers_mut());
        response
    }

    /// What a cache needs, in 304 as well.
    fn response(&self, status: StatusCode, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().clone_from(&self.object.headers);
        set(&mut response, header::ETAG, &format!("\"{}\"", self.form.etag));
        let age = self.object.freshness(self.rules).age(self.now);
        set(&mut response, header::AGE, &age.as_secs().to_string());
        if is_immutable(&Directives::of(&self.object.headers), self.rules) {
            set(&mut response, header::CACHE_CONTROL, IMMUTABLE);
            response.headers_mut().remove(header::EXPIRES);
            // To some browsers it still means no-cache in a response.
            response.headers_mut().remove(header::PRAGMA);
        }
        if self.object.is_compressible() {
            vary_on_encoding(response.headers_mut());
        }
        headers::add_via(response.headers_mut());
        self.account.add_to(response.headers_mut());
        response
    }
}

/// The answer that all who wait for the same get, and nobody after them.
pub(super) async fn from_answer(
    metrics: &Metrics,
    answer: &Answer,
    method: &Method,
    account: &Account,
) -> std::io::Result<Response> {
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => reply::body(answer.received.open(None).await?, metrics.clone()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    response.headers_mut().clone_from(&answer.headers);
    // No body has 204 and no length either.
    if answer.status != StatusCode::NO_CONTENT {
        set(&mut response, header::CONTENT_LENGTH, &answer.received.size.to_string());
    }
    headers::add_via(response.headers_mut());
    account.add_to(response.headers_mut());
    Ok(response)
}

/// 502 or 504: the origin gave no response.
pub(super) fn failed(error: &FetchError, fwd: &str) -> Response {
    let retry_after = Some(std::time::Duration::from_secs(1));
    let mut response = reply::error(error.status(), error.reason(), &error.to_string(), retry_after);
    Account(format!("weft; fwd={fwd}; detail={}", error.as_str())).add_to(response.headers_mut());
    response
}

/// Why a request reaches no origin.
pub(super) fn no_target(problem: NoTarget) -> Response {
    let (status, reason, message) = match problem {
        NoTarget::Unknown => (StatusCode::NOT_FOUND, "NOT_FOUND", "nothing is served at this path"),
        NoTarget::BadPath => {
            let message = "the path has dot segments, or escapes that are none";
            (StatusCode::BAD_REQUEST, "BAD_PATH", message)
        }
        NoTarget::TooLong => (StatusCode::URI_TOO_LONG, "PATH_TOO_LONG", "the path is too long"),
        NoTarget::Loop => (StatusCode::LOOP_DETECTED, "ORIGIN_LOOP", "the origin leads back to this service"),
    };
    refused(status, reason, message)
}

/// An error of this service's own.
pub(super) fn refused(status: StatusCode, reason: &str, message: &str) -> Response {
    reply::error(status, reason, message, None)
}

fn vary_on_encoding(headers: &mut HeaderMap) {
    let said = |line: &HeaderValue| {
        line.to_str().is_ok_and(|line| {
            line.split(',').any(|name| name.trim().eq_ignore_ascii_case(header::ACCEPT_ENCODING.as_str()))
        })
    };
    if !headers.get_all(header::VARY).iter().any(said) {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    // Of our making but for the origin's tag, which was a header of its own.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
