//! What the gateway itself refuses, as OpenAI's clients expect to be told: `{"error": {message, type, param, code}}`.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use weft_balance::verdict::Code;

use super::model::Problem;
use crate::forward::Body;

/// The longest part of a model's name that is said again, in characters.
const NAME_LIMIT: usize = 200;

/// What was refused, beside an answer that says so in the gateway's own form.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// A stable name for programs, in upper snake case.
    pub(crate) reason: String,
    /// For people.
    pub(crate) message: String,
}

/// A call that is refused for what it says.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Its body does not name a model as it should.
    Body(Problem),
    /// No pool serves the model.
    UnknownModel(String),
    /// Perhaps one does: some servers have not said yet.
    UnsureModel(String),
    /// It is compressed.
    Compressed,
    /// Its body did not come in time.
    Late,
    /// Nothing like it is served.
    UnknownPath,
}

impl Failure {
    /// As it counts in metrics and logs.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Body(_) | Self::Compressed => Code::InvalidArgument,
            Self::UnknownModel(_) | Self::UnknownPath => Code::NotFound,
            Self::UnsureModel(_) => Code::Unavailable,
            Self::Late => Code::Cancelled,
        }
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let cut = |name: &str| name.chars().take(NAME_LIMIT).collect::<String>();
        let (status, code, of_model, message) = match self {
            Self::Body(problem) => {
                let code = if problem.is_of_model() { "invalid_model" } else { "invalid_json" };
                (StatusCode::BAD_REQUEST, code, problem.is_of_model(), problem.to_string())
            }
            Self::UnknownModel(name) => {
                let message = format!("The model `{}` does not exist or is not served here", cut(name));
                (StatusCode::NOT_FOUND, "model_not_found", true, message)
            }
            Self::UnsureModel(name) => {
                let message = format!(
                    "It is not known which server has the model `{}`: some have not listed theirs yet",
                    cut(name)
                );
                (StatusCode::SERVICE_UNAVAILABLE, "models_unknown", true, message)
            }
            Self::Compressed => {
                let message = "a request's body is not taken compressed".to_owned();
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", false, message)
            }
            Self::Late => {
                let message = "the request's body did not come in time".to_owned();
                (StatusCode::REQUEST_TIMEOUT, "request_timeout", false, message)
            }
            Self::UnknownPath => {
                let message = "nothing is served at this path, or not by this method".to_owned();
                (StatusCode::NOT_FOUND, "unknown_url", false, message)
            }
        };
        let mut response = Response::new(error(status, code, of_model.then_some("model"), &message));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(self, Self::UnsureModel(_)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Says an answer of the gateway's own in OpenAI's form. Others stay as they are.
pub(crate) fn dress(response: &mut Response<Body>) {
    if let Some(Told { reason, message }) = response.extensions_mut().remove::<Told>() {
        *response.body_mut() = error(response.status(), &reason.to_ascii_lowercase(), None, &message);
    }
}

fn error(status: StatusCode, code: &str, param: Option<&str>, message: &str) -> Body {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        _ if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let error = json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
    Body::full(Bytes::from(error.to_string()))
}
