//! The gateway's own answers, in the client's protocol.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use serde_json::json;
use tonic::Code;
use weft_mesh::error::{Classify, MeshError, status};
use weft_runtime::Readiness;

use super::{Body, host, tunnel};
use crate::{openai::Told, rate, route::is_plain};

/// Refuses a call.
pub(super) fn refuse(error: MeshError, grpc: bool) -> Response<Body> {
    if grpc {
        return status(error).into_http::<()>().map(|()| Body::empty());
    }
    let retry = error.retry_after();
    let status = match error {
        MeshError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        MeshError::Method => StatusCode::METHOD_NOT_ALLOWED,
        MeshError::Coding => StatusCode::NOT_IMPLEMENTED,
        // To gRPC it is the same as none that is healthy; to HTTP it has a status of its own.
        MeshError::Backend { .. } => StatusCode::BAD_GATEWAY,
        MeshError::FirstByte { .. } | MeshError::Idle { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => error.kind().http_status(),
    };
    let mut response = self::error(status, error.reason(), &error.to_string());
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer realm=\"weft\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    if let Some(after) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(after)));
    }
    response
}

/// Whole seconds that are not less.
pub(crate) const fn seconds(time: Duration) -> u64 {
    let whole = if time.subsec_nanos() == 0 { time.as_secs() } else { time.as_secs().saturating_add(1) };
    if whole == 0 { 1 } else { whole }
}

/// The status of a failed call as trailers, for a stream that has begun.
pub(super) fn trailers(error: MeshError) -> HeaderMap {
    let (parts, ()) = status(error).into_http::<()>().into_parts();
    let mut trailers = parts.headers;
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

/// Says what is left of a limit, or when the next call may come.
pub(super) fn tell_rate(headers: &mut HeaderMap, limit: &rate::Limit, verdict: rate::Verdict) {
    let (policy, state) = limit.fields(verdict);
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (HeaderName::from_static(name), value)));
    }
}

/// Refuses what no route should see: tunnels to anywhere, echoes of what a client has sent with its secrets, and paths
/// that lead around the route they seem to match.
pub(super) fn unfit<B>(request: &Request<B>, grpc: bool) -> Option<Response<Body>> {
    let (method, headers) = (request.method(), request.headers());
    if request.version() < Version::HTTP_2 {
        let hosts = headers.get_all(header::HOST).iter().count();
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            return Some(refuse(MeshError::Host, grpc));
        }
        let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
        if codings.len() > 1 || codings.iter().any(|c| !c.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Some(refuse(MeshError::Coding, grpc));
        }
    }
    // `user@host` reads as the host to some and as something else to others.
    if host(request).contains('@') {
        return Some(refuse(MeshError::Host, grpc));
    }
    if method == Method::TRACE || method == Method::CONNECT && !tunnel::is_extended(request) {
        return Some(refuse(MeshError::Method, grpc));
    }
    (!is_plain(request.uri().path())).then(|| refuse(MeshError::Path, grpc))
}

/// Says whether the gateway serves.
pub(super) fn health(ready: &Readiness) -> Response<Body> {
    match ready.get() {
        Ok(()) => json_body(StatusCode::OK, &json!({ "status": "serving" })),
        Err(reason) => {
            let body = json!({ "status": "not serving", "reason": reason });
            json_body(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// Says that no route matches; `None` for `/health`, which needs none.
pub(super) fn no_route<B>(request: &Request<B>, grpc: bool) -> Option<Response<Body>> {
    if request.uri().path() == "/health" && !grpc {
        return None;
    }
    if !grpc {
        return Some(error(StatusCode::NOT_FOUND, "NO_ROUTE", "no route matches this host and path"));
    }
    let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    let message: String =
        service.chars().filter(char::is_ascii_graphic).filter(|c| *c != '%').take(200).collect();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(Code::Unimplemented as i32));
    if let Ok(message) = HeaderValue::try_from(format!("no route for service {message}")) {
        headers.insert("grpc-message", message);
    }
    Some(response)
}

fn error(status: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let mut response = json_body(status, &json!({ "error": { "reason": reason, "message": message } }));
    response.extensions_mut().insert(Told { reason: reason.to_owned(), message: message.to_owned() });
    response
}

fn json_body(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
