//! `weft ask` with a configured provider: the answer is shown while the provider still writes it, and a provider that
//! refuses is a clear failure.

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
use futures::{TryStreamExt, channel::mpsc};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

use crate::process::{LIMIT, Mesh};

type Events = mpsc::UnboundedReceiver<Result<String, Infallible>>;

/// The events of the one answer that the provider gives; it refuses every later request.
#[derive(Clone)]
struct Answer(Arc<Mutex<Option<Events>>>);

async fn chat(State(answer): State<Answer>) -> Response {
    match answer.0.lock().unwrap().take() {
        Some(events) => ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response(),
        None => {
            let error = json!({ "error": { "message": "the key has run dry" } });
            (StatusCode::UNAUTHORIZED, Json(error)).into_response()
        }
    }
}

fn token(text: &str) -> String {
    json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }).to_string()
}

/// Asks twice: the first answer comes in pieces, each sent only after the one before it was shown.
async fn ask(mesh: &Mesh, events: mpsc::UnboundedSender<Result<String, Infallible>>) {
    let send = |data: &str| events.unbounded_send(Ok(format!("data: {data}\n\n"))).unwrap();
    let client = mesh.client().await;
    let mut asking = mesh.command(&["ask", "When is high tide?"]).spawn().unwrap();
    let mut out = asking.stdout.take().unwrap();
    for piece in ["High tide", " is at", " six."] {
        send(&token(piece));
        let mut shown = vec![0; piece.len()];
        timeout(LIMIT, out.read_exact(&mut shown))
            .await
            .expect("the piece is shown before the next")
            .unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), piece);
    }
    send(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }).to_string());
    send("[DONE]");
    events.close_channel();
    let ended = asking.wait_with_output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let chats: Vec<_> = client.chats().list().try_collect().await.unwrap();
    let messages: Vec<_> = client.messages().list(&chats[0].id).try_collect().await.unwrap();
    assert_eq!(messages[0].content, "High tide is at six.");

    let refused = mesh.command(&["ask", "And low tide?"]).output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let expected =
        "error: no answer after 1 attempts: the provider answered 401: the key has run dry; `weft jobs show ";
    assert!(said.starts_with(expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_shown_as_the_provider_writes_it_and_a_refusal_is_told() {
    let (events, answer) = mpsc::unbounded();
    let answer = Answer(Arc::new(Mutex::new(Some(answer))));
    let router = Router::new().route("/v1/chat/completions", post(chat)).with_state(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let config = format!("[queue.provider]\nbase_url = \"{base_url}\"\nmodel = \"tide\"\n");
    let mesh = Mesh::start(&config).await;
    tokio::select! {
        served = async { axum::serve(listener, router).await } => panic!("the provider ended: {served:?}"),
        () = ask(&mesh, events) => {}
    }
}
