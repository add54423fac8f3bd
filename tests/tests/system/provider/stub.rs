//! A model provider whose answers are written by the test, piece by piece.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use futures::channel::mpsc;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

type Events = mpsc::UnboundedReceiver<Result<String, Infallible>>;
/// In the order of the requests that get them; every later one is refused.
type Answers = Arc<Mutex<std::vec::IntoIter<Events>>>;

/// An OpenAI-compatible provider; it ends when this is dropped.
pub(crate) struct Provider {
    base_url: String,
    _serving: AbortOnDropHandle<()>,
}

/// One of its answers, which whoever asked for it reads while it is written.
pub(crate) struct Answer(mpsc::UnboundedSender<Result<String, Infallible>>);

impl Provider {
    /// Starts one that gives these answers, one to each request.
    pub(crate) async fn start<const N: usize>() -> (Self, [Answer; N]) {
        let mut events = Vec::new();
        let answers = [(); N].map(|()| {
            let (answer, read) = mpsc::unbounded();
            events.push(read);
            Answer(answer)
        });
        let state: Answers = Arc::new(Mutex::new(events.into_iter()));
        let router = Router::new().route("/v1/chat/completions", post(chat)).with_state(state);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let serving = TaskTracker::new().spawn(async move { axum::serve(listener, router).await.unwrap() });
        (Self { base_url, _serving: AbortOnDropHandle::new(serving) }, answers)
    }

    /// As the queue's configuration names it, an inline table.
    pub(crate) fn config(&self) -> String {
        format!("{{ base_url = \"{}\", model = \"tide\" }}", self.base_url)
    }
}

impl Answer {
    /// Writes a piece.
    pub(crate) fn write(&self, piece: &str) {
        let choice = json!({ "index": 0, "delta": { "content": piece }, "finish_reason": null });
        self.send(&json!({ "choices": [choice] }).to_string());
    }

    /// Writes the end.
    pub(crate) fn end(self) {
        let choice = json!({ "index": 0, "delta": {}, "finish_reason": "stop" });
        self.send(&json!({ "choices": [choice] }).to_string());
        self.send("[DONE]");
    }

    fn send(&self, data: &str) {
        self.0.unbounded_send(Ok(format!("data: {data}\n\n"))).expect("somebody reads the answer");
    }
}

async fn chat(State(answers): State<Answers>) -> Response {
    match answers.lock().unwrap().next() {
        Some(events) => ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response(),
        None => {
            let error = json!({ "error": { "message": "the key has run dry" } });
            (StatusCode::UNAUTHORIZED, Json(error)).into_response()
        }
    }
}
