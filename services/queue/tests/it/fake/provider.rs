//! A tiny OpenAI-compatible provider that does what it is told.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

/// What one request is answered.
pub(crate) enum Script {
    /// Events as they stand, each a line and a blank one; then the connection ends.
    Events(Vec<String>),
    /// A status with a body, and `Retry-After`.
    Refuse(u16, Value, Option<&'static str>),
    /// Numbers without end.
    Endless,
}

/// A provider, serving.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<VecDeque<Script>>,
    requests: Mutex<Vec<(HeaderMap, Value)>>,
}

/// Events of an answer of these pieces, properly ended.
pub(crate) fn answer(pieces: &[&str]) -> Script {
    let mut events = vec![": welcome".to_owned()];
    events.extend(pieces.iter().map(|piece| token(piece)));
    events
        .push(format!("data: {}", json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})));
    events.push(format!("data: {}", json!({"choices": [], "usage": {"total_tokens": 7}})));
    events.push("data: [DONE]".to_owned());
    Script::Events(events)
}

pub(crate) fn token(piece: &str) -> String {
    format!(
        "data: {}",
        json!({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": null}]})
    )
}

impl Provider {
    pub(crate) async fn start(scripts: impl IntoIterator<Item = Script>) -> Provider {
        let shared = Arc::new(Shared::default());
        shared.scripts.lock().unwrap().extend(scripts);
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/embeddings", post(embeddings))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
        Provider { address, shared }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Value)> {
        self.shared.requests.lock().unwrap().clone()
    }
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    shared.requests.lock().unwrap().push((headers, body));
    let script = shared.scripts.lock().unwrap().pop_front();
    match script {
        Some(Script::Events(events)) => {
            let lines = events.into_iter().map(|event| Ok::<_, Infallible>(format!("{event}\n\n")));
            ([("content-type", "text/event-stream")], Body::from_stream(stream::iter(lines))).into_response()
        }
        Some(Script::Refuse(status, body, after)) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), Json(body)).into_response();
            if let Some(after) = after {
                response.headers_mut().insert("retry-after", after.parse().unwrap());
            }
            response
        }
        Some(Script::Endless) => endless(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn endless() -> Response {
    let start = stream::iter([r#"{"data": [{"index": 0, "embedding": [0.5"#]);
    let numbers = stream::repeat(", 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5");
    Body::from_stream(start.chain(numbers).map(Ok::<_, Infallible>)).into_response()
}

/// Vectors of two dimensions, in another order than asked for; unless the script is endless.
async fn embeddings(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if matches!(shared.scripts.lock().unwrap().pop_front(), Some(Script::Endless)) {
        return endless();
    }
    let count = body["input"].as_array().unwrap().len();
    shared.requests.lock().unwrap().push((headers, body));
    let item = |index: usize| json!({"index": index, "embedding": [index as f32 + 1.0, 0.0]});
    Json(json!({"data": (0..count).rev().map(item).collect::<Vec<_>>()})).into_response()
}
