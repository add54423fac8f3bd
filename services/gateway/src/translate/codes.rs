//! Failures in the words of the Connect protocol.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prost::Message as _;
use serde_json::{Value, json};
pub(super) use tonic::Code;
use tonic::Status;

use crate::forward::Body;

/// A call that failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    message: String,
    /// An encoded `google.rpc.Status`.
    details: Bytes,
}

/// `google.rpc.Status`, as far as it is not said elsewhere.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Bytes::new() }
    }

    /// What the headers or trailers of gRPC say; `None` for a success. When they say nothing, it is what the status of
    /// HTTP stands for.
    pub(super) fn of(headers: &HeaderMap, http: StatusCode) -> Option<Self> {
        let Some(status) = Status::from_header_map(headers) else {
            let message = format!("the backend sent no status but {}", http.as_u16());
            return Some(Self::new(from_http(http), message));
        };
        let (code, message) = (status.code(), status.message().to_owned());
        let details = Bytes::copy_from_slice(status.details());
        (code != Code::Ok).then_some(Self { code, message, details })
    }

    /// As its JSON has it.
    pub(super) fn json(&self) -> Value {
        let details = Details::decode(self.details.clone()).unwrap_or_default().details;
        let details = details.into_iter().map(|any| {
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            json!({ "type": name, "value": STANDARD_NO_PAD.encode(&any.value) })
        });
        let mut error = json!({ "code": name(self.code) });
        if !self.message.is_empty() {
            error["message"] = self.message.as_str().into();
        }
        let details: Vec<Value> = details.collect();
        if !details.is_empty() {
            error["details"] = details.into();
        }
        error
    }

    /// The answer to a call of one message each way.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::from(self.json().to_string())));
        *response.status_mut() = http_status(self.code);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// As gRPC maps them (`http-grpc-status-mapping.md`).
fn from_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "canceled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// As the protocol maps them: <https://connectrpc.com/docs/protocol#error-codes>.
fn http_status(code: Code) -> StatusCode {
    let status = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use weft_mesh::error::{MeshError, status};

    use super::*;

    #[test]
    fn a_failure_keeps_its_details() {
        let headers = status(MeshError::Overloaded).into_http::<()>().into_parts().0.headers;
        let failure = Failure::of(&headers, StatusCode::OK).unwrap();
        let json = failure.json();
        assert_eq!(json["code"], "resource_exhausted");
        assert_eq!(json["message"], "too many calls in flight");
        let details = json["details"].as_array().unwrap();
        assert!(details.iter().any(|detail| detail["type"] == "google.rpc.ErrorInfo"), "{json}");
        assert_eq!(failure.response().status(), StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn no_status_is_a_failure_and_ok_is_none() {
        let said = |http| Failure::of(&HeaderMap::new(), http).unwrap().json()["code"].clone();
        assert_eq!(said(StatusCode::OK), "unknown");
        assert_eq!(said(StatusCode::SERVICE_UNAVAILABLE), "unavailable");
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "0".parse().unwrap());
        assert!(Failure::of(&headers, StatusCode::OK).is_none());
    }
}
