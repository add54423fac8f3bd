//! The gateway's own answers, in the client's protocol.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use tonic::Code;
use weft_mesh::error::{Classify, MeshError, status};
use weft_runtime::Readiness;

use super::{Body, tunnel};
use crate::route::is_plain;

/// Refuses a call.
pub(super) fn refuse(error: MeshError, grpc: bool) -> Response<Body> {
    if grpc {
        return status(error).into_http::<()>().map(|()| Body::empty());
    }
    let retry = error.retry_after();
    let status = match error {
        MeshError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        MeshError::Method => StatusCode::METHOD_NOT_ALLOWED,
        // To gRPC it is the same as none that is healthy; to HTTP it has a status of its own.
        MeshError::Backend { .. } => StatusCode::BAD_GATEWAY,
        MeshError::FirstByte { .. } | MeshError::Idle { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => error.kind().http_status(),
    };
    let mut response = self::error(status, error.reason(), &error.to_string());
    if let Some(after) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

/// The status of a failed call as trailers, for a stream that has begun.
pub(super) fn trailers(error: MeshError) -> HeaderMap {
    let (parts, ()) = status(error).into_http::<()>().into_parts();
    let mut trailers = parts.headers;
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

/// Refuses what no route should see: tunnels to anywhere, echoes of what a client has sent with its secrets, and paths
/// that lead around the route they seem to match.
pub(super) fn unfit<B>(request: &Request<B>, grpc: bool) -> Option<Response<Body>> {
    let method = request.method();
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
    json_body(status, &json!({ "error": { "reason": reason, "message": message } }))
}

fn json_body(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
