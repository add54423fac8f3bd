//! OpenAI's own client library, unmodified, before model servers behind the gateway.
#![cfg(feature = "real-backends")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::task::TaskTracker;
use weft_gateway::{Backend, Config, Gateway, Health, HealthKind, Listener, Models, Pool, Protocol, Route};
use weft_runtime::{Listeners, config::Admin, start};

use crate::peer::foreign;

const MODEL: &str = "meta/llama3.1:8b";

/// What the server shares between its calls.
#[derive(Default)]
struct Stub {
    /// The client has the last piece of a stream.
    go_on: Notify,
    /// It was told once to come later.
    refused: AtomicBool,
}

/// A model server that answers as the client's script expects it.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/models", get(list))
        .route("/v1/{*call}", post(answer))
        .with_state(Arc::<Stub>::default());
    TaskTracker::new().spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn list() -> Json<Value> {
    let model = |id: &str| json!({ "id": id, "object": "model", "created": 1, "owned_by": "stub", "max_model_len": 4096 });
    Json(json!({ "object": "list", "data": [model(MODEL), model("text-embed-small")] }))
}

async fn answer(
    State(stub): State<Arc<Stub>>,
    Path(call): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer of-the-server", "the client has another one");
    let prompt = asked["prompt"].as_str().unwrap_or_default();
    match (call.as_str(), prompt) {
        ("chat/completions", _) if asked["stream"] == true => stream(stub),
        ("chat/completions", _) => chat(&asked).into_response(),
        ("embeddings", _) => embeddings(&asked).into_response(),
        ("responses", _) => response(&asked).into_response(),
        (_, "later") => later(),
        (_, "later once") if !stub.refused.swap(true, Ordering::Relaxed) => later(),
        (_, "go on") => {
            stub.go_on.notify_one();
            completion(prompt).into_response()
        }
        _ => completion(prompt).into_response(),
    }
}

fn later() -> Response {
    let error =
        json!({ "error": { "message": "too many", "type": "requests", "param": null, "code": "limit" } });
    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], Json(error)).into_response()
}

fn completion(text: &str) -> Json<Value> {
    let choice = json!({ "index": 0, "text": text, "finish_reason": "stop", "logprobs": null });
    Json(json!({ "id": "c", "object": "text_completion", "created": 1, "model": MODEL, "choices": [choice] }))
}

fn chat(asked: &Value) -> Json<Value> {
    let message = json!({ "role": "assistant", "content": asked["messages"][0]["content"] });
    Json(json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "x_seen": asked["x_vendor"],
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 2, "completion_tokens": 7, "total_tokens": 9 },
    }))
}

fn embeddings(asked: &Value) -> Json<Value> {
    // 0.5 and -2.0 as little-endian floats, which is what the library asks for unless it is told otherwise.
    let vector =
        if asked["encoding_format"] == "base64" { json!("AAAAPwAAAMA=") } else { json!([0.5, -2.0]) };
    let count = asked["input"].as_array().map_or(1, Vec::len);
    let data = (0..count).map(|index| json!({ "object": "embedding", "index": index, "embedding": vector }));
    let usage = json!({ "prompt_tokens": 1, "total_tokens": 1 });
    Json(
        json!({ "object": "list", "model": asked["model"], "data": data.collect::<Vec<_>>(), "usage": usage }),
    )
}

fn response(asked: &Value) -> Json<Value> {
    let text = json!({ "type": "output_text", "text": asked["input"], "annotations": [] });
    let message = json!({ "id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [text] });
    Json(json!({
        "id": "r", "object": "response", "created_at": 1, "model": MODEL, "status": "completed", "output": [message],
        "parallel_tool_calls": false, "tool_choice": "auto", "tools": [],
    }))
}

/// Three words, each sent when the client has said that it has the one before.
fn stream(stub: Arc<Stub>) -> Response {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let delta = move |delta: Value, finish: Option<&str>| {
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish }]), Value::Null)
    };
    let usage = json!({ "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5 });
    let events = [
        delta(json!({ "role": "assistant", "content": "" }), None),
        delta(json!({ "content": "one" }), None),
        delta(json!({ "content": " two" }), None),
        delta(json!({ "content": " three" }), None),
        delta(json!({}), Some("stop")),
        chunk(json!([]), usage),
        "data: [DONE]\n\n".to_owned(),
    ];
    let events = futures::stream::unfold((events.into_iter(), 0), move |(mut events, sent)| {
        let stub = Arc::clone(&stub);
        async move {
            if (2..=4).contains(&sent) {
                stub.go_on.notified().await;
            }
            Some((Ok::<_, Infallible>(events.next()?), (events, sent + 1)))
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
}

#[tokio::test]
async fn openais_library_finds_models_of_many_servers_at_one_address() {
    let server = serve().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pool = |name: &str, address: SocketAddr, names: &[&str]| Pool {
        name: name.into(),
        protocol: Protocol::Http,
        backends: vec![Backend { address: address.to_string(), weight: 1, tier: 0 }],
        health: Health {
            kind: Some(HealthKind::Tcp),
            interval: Duration::from_millis(50),
            ..Health::default()
        },
        models: Some(Models {
            names: names.iter().map(ToString::to_string).collect(),
            api_key: "of-the-server".into(),
            ..Models::default()
        }),
        ..Pool::default()
    };
    let route = Route { openai: true, max_request_bytes: Some(1_000_000), ..Route::path("/v1/", "") };
    let config = Config {
        workers: 1,
        listeners: vec![Listener::at("127.0.0.1:0")],
        admin: Admin::at("127.0.0.1:0"),
        pools: vec![pool("gone", gone, &["gone"]), pool("models", server, &[MODEL, "text-embed-*"])],
        routes: vec![route],
        ..Config::default()
    };
    let listeners = Listeners::bind(&config).await.unwrap();
    let gateway = start::<Gateway>(config, listeners).await.unwrap();
    let port = gateway.address.port().to_string();
    let (passed, said) = foreign::run("openai", "python/models.py", &[&port]).await;
    assert!(passed && said.trim() == "passed 10", "{said}");
    gateway.stop().await;
}
