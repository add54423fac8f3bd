//! Asking a pool's servers for their models: one of them, picked as for any call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use weft_balance::{
    Class,
    retry::{Deadline, Limits},
};
use weft_mesh::{
    BoxError, Replay,
    error::{MeshError, chain},
    methods::Method,
    terms::{Course, Terms},
    upstream::Upstream,
};

use super::list::Listed;

/// The largest list in bytes: providers with hundreds of models need a tenth of it.
const LIST_LIMIT: usize = 4 * 1024 * 1024;

/// Connections for asking.
pub(super) type Asking = Upstream<Empty<Bytes>>;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unlisted {
    #[error("{}", chain(.0))]
    NoAnswer(MeshError),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the answer is {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off: {0}")]
    Broken(BoxError),
    #[error("the answer is no list of models: {0}")]
    NoList(serde_json::Error),
}

/// Asks for the list at a path, within a time.
pub(super) async fn fetch(
    asking: &Asking,
    path: &str,
    headers: HeaderMap,
    time: Duration,
) -> Result<Listed, Unlisted> {
    tokio::time::timeout(time, ask(asking, path, headers, time)).await.unwrap_or(Err(Unlisted::Late(time)))
}

async fn ask(asking: &Asking, path: &str, headers: HeaderMap, time: Duration) -> Result<Listed, Unlisted> {
    let mut request = Request::new(Replay::new(Empty::new()));
    *request.uri_mut() = path.parse().unwrap_or_default();
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let mut course = Course::default();
    let response = asking.call(request, &terms(time), &mut course).await.map_err(Unlisted::NoAnswer)?;
    let at = Instant::now();
    if !response.status().is_success() {
        return Err(Unlisted::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), LIST_LIMIT).collect().await.map_err(Unlisted::Broken)?;
    Listed::parse(&body.to_bytes(), at).map_err(Unlisted::NoList)
}

/// Not sent again by itself: it is asked again anyway. That it takes too long weighs as little as with a client that is
/// in a hurry.
fn terms(time: Duration) -> Terms {
    Terms {
        deadline: Deadline::new(Some(time), Limits::default(), Instant::now()),
        idempotent: false,
        peek: false,
        grpc: false,
        key: None,
        class: Class::Interactive,
        idle: None,
        method: Method::unknown(false),
        trace_attempts: false,
        stream_ends: None,
    }
}
