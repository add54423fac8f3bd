//! Requests to an OpenAI-compatible endpoint, and what its refusals mean.

use std::time::Duration;

use http::{StatusCode, header::RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use weft_runtime::config::Secret;

use crate::handler::Failure;

/// The most of an error message that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// The most of an error body that is read, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// The longest `Retry-After` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Client,
    base_url: String,
    api_key: Secret,
}

impl Endpoint {
    /// An endpoint at a base URL; `None` when there is none, or TLS cannot be had.
    #[must_use]
    pub fn new(base_url: &str, api_key: &Secret, connect_timeout: Duration) -> Option<Endpoint> {
        if base_url.is_empty() {
            return None;
        }
        weft_runtime::install_tls_provider();
        let client = Client::builder().connect_timeout(connect_timeout).user_agent("weft-queue").build();
        match client {
            Ok(client) => {
                let base_url = base_url.trim_end_matches('/').to_owned();
                Some(Endpoint { client, base_url, api_key: api_key.clone() })
            }
            Err(error) => {
                tracing::error!(%error, "no HTTP client can be had");
                None
            }
        }
    }

    /// A request to a path below the base URL. The caller sets its timeout.
    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        let request = self.client.post(format!("{}/{path}", self.base_url)).json(body);
        if self.api_key.is_empty() { request } else { request.bearer_auth(self.api_key.expose()) }
    }
}

/// What a request that got no answer means: another attempt may.
#[must_use]
pub fn failed(error: &reqwest::Error) -> Failure {
    let what = if error.is_connect() {
        "the provider cannot be reached"
    } else if error.is_timeout() {
        "the provider took too long"
    } else {
        "the connection to the provider broke"
    };
    // Its own text may quote the URL, and a URL credentials.
    tracing::debug!(%error, "a request to the provider failed");
    Failure::retry(what)
}

/// What an answer other than 200 means.
pub async fn refused(response: Response) -> Failure {
    let status = response.status();
    let after = retry_after(&response);
    let body = tokio::time::timeout(Duration::from_secs(5), beginning(response)).await.unwrap_or_default();
    let message = format!("the provider answered {}: {}", status.as_u16(), said(&body));
    let temporary = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT
        );
    if temporary { Failure::Retry { message, after } } else { Failure::Permanent { message } }
}

/// The body of an answer, whole.
///
/// # Errors
/// When it is longer than `max_bytes`, which is noticed while it comes, or breaks off.
pub async fn read(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + bytes.len() > max_bytes {
            return Err(Failure::retry(format!("the provider answered with more than {max_bytes} bytes")));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

/// A text cut to what is kept.
#[must_use]
pub fn bounded(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARS).collect()
}

/// Seconds; a date is not worth a clock that may differ.
fn retry_after(response: &Response) -> Duration {
    let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default().min(MAX_RETRY_AFTER)
}

/// As much of the body of a refusal as is worth reading.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_BODY_BYTES {
            break;
        }
    }
    body
}

/// The message of an OpenAI error, or the body itself.
fn said(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|value| value.pointer("/error/message")?.as_str());
    bounded(message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned).trim())
}
