//! Asking a pool's servers for their models. That is no call: it takes no place among them, and is not counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use weft_balance::{Backend, Health};
use weft_mesh::{
    BoxError, Replay,
    upstream::{Returning, Upstream},
};

use super::list::Listed;

/// The largest answer in bytes: lists of hundreds of models, and hundreds of histograms, take a tenth of it.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Connections for asking.
pub(super) type Asking = Upstream<Empty<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no backend is healthy")]
    Nobody,
    #[error("{backend} does not answer: {problem}")]
    Failed { backend: String, problem: BoxError },
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("{backend} answers {status}")]
    Status { backend: String, status: http::StatusCode },
    #[error("{backend} answers no list of models: {problem}")]
    NoList { backend: String, problem: serde_json::Error },
}

/// Asks for the list at a path, within a time: the backend whose turn it is, and where that fails at once, the next.
pub(super) async fn list(
    asking: &Asking,
    path: &str,
    headers: &HeaderMap,
    (time, turn): (Duration, usize),
) -> Result<Listed, Unanswered> {
    let list = asking.pool().backends.list();
    let backends: Vec<_> = list.iter().filter(|backend| is_up(backend)).collect();
    let asked = async {
        let mut problem = Unanswered::Nobody;
        let first = turn.checked_rem(backends.len()).unwrap_or_default();
        for backend in backends.iter().cycle().skip(first).take(backends.len()) {
            match list_of(asking, backend, path, headers.clone()).await {
                Ok(list) => return Ok(list),
                Err(failed) => problem = failed,
            }
        }
        Err(problem)
    };
    tokio::time::timeout(time, asked).await.unwrap_or(Err(Unanswered::Late(time)))
}

async fn list_of(
    asking: &Asking,
    backend: &Arc<Backend>,
    path: &str,
    headers: HeaderMap,
) -> Result<Listed, Unanswered> {
    let at = Instant::now();
    let answer = get(asking, backend, path, headers).await?;
    let name = || backend.address().to_owned();
    Listed::parse(&answer, at).map_err(|problem| Unanswered::NoList { backend: name(), problem })
}

/// Whether a backend is worth being asked.
pub(super) fn is_up(backend: &Backend) -> bool {
    backend.health() != Health::Unhealthy && !backend.draining()
}

/// Asks one backend for what it has at a path. The caller keeps the time.
pub(super) async fn get(
    asking: &Asking,
    backend: &Arc<Backend>,
    path: &str,
    headers: HeaderMap,
) -> Result<Bytes, Unanswered> {
    let name = || backend.address().to_owned();
    let failed = |problem| Unanswered::Failed { backend: name(), problem };
    let mut request = Request::new(Replay::new(Empty::new()));
    *request.uri_mut() = path.parse().unwrap_or_default();
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json, text/plain"));
    let response: Response<Returning<_>> = asking.ask(backend, request).await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(Unanswered::Status { backend: name(), status: response.status() });
    }
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(failed)?;
    Ok(body.to_bytes())
}
