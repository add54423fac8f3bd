//! The API of OpenAI over model servers: by model, byte for byte, whatever becomes of a server.

mod failing;
mod listing;
mod measured;

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use weft_gateway::{Backend, Config, HealthKind, Models, Pool, Protocol, RateLimit, Route};
use weft_runtime::Running;
use weft_testkit::eventually;

use crate::{
    client::http,
    config,
    model_server::{Answer, ModelServer},
    started,
};

const LIMIT: Duration = Duration::from_secs(10);

/// A pool of such servers, each in the tier of its place, that serves models by these names; without any, those that
/// its servers list.
fn pool(name: &str, servers: &[&ModelServer], names: &[&str]) -> Pool {
    let backends = servers.iter().zip(0..).map(|(server, tier)| Backend {
        address: server.address.to_string(),
        weight: 1,
        tier,
    });
    Pool {
        name: name.into(),
        protocol: Protocol::Http,
        backends: backends.collect(),
        models: Some(Models {
            names: names.iter().map(ToString::to_string).collect(),
            refresh: Duration::from_millis(50),
            ..Models::default()
        }),
        ..config(&[], &[], HealthKind::Tcp).pools.remove(1)
    }
}

/// The configuration of a gateway with such pools, whose API is below `/v1/`.
fn configured(pools: Vec<Pool>) -> Config {
    let route = Route { openai: true, ..Route::path("/v1/", "") };
    Config { pools, routes: vec![route], ..config(&[], &[], HealthKind::Tcp) }
}

async fn gateway(pools: Vec<Pool>) -> Running {
    started(configured(pools)).await
}

/// A request with a body: the head of the answer, and its body.
async fn ask(address: SocketAddr, path: &str, headers: &str, body: &str) -> (String, String) {
    let head = format!("POST {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{headers}");
    let length = body.len();
    split(&http(address, &format!("{head}content-length: {length}\r\n\r\n{body}")).await)
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    split(&http(address, &format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")).await)
}

fn split(answer: &str) -> (String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// An error in OpenAI's form: its status, type, parameter and code.
#[track_caller]
fn error((head, body): &(String, String)) -> (u16, String, Value, String) {
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let value: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{head} {body}"));
    let error = value["error"].as_object().unwrap_or_else(|| panic!("{head} {body}"));
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "param", "type"], "{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (status, text("type"), error["param"].clone(), text("code"))
}

fn chat(model: &str) -> String {
    format!(r#"{{"messages": [{{"role":"user","content":"model"}}], "x_more": 1e400 ,"model":"{model}" }}"#)
}

#[tokio::test]
async fn a_call_goes_to_the_pool_of_its_model_as_it_came() {
    let [one, two, rest] =
        [ModelServer::start(&[]).await, ModelServer::start(&[]).await, ModelServer::start(&[]).await];
    let gateway = gateway(vec![
        pool("rest", &[&rest], &["*"]),
        pool("one", &[&one], &["llama3.1:8b", "text-*"]),
        pool("two", &[&two], &["text-embed-*"]),
    ])
    .await;
    for (path, model, server) in [
        ("/v1/chat/completions?x=%41", "llama3.1:8b", &one),
        ("/v1/completions", "text-davinci", &one),
        ("/v1/embeddings", "text-embed-small", &two),
        ("/v1/chat/completions", "llama3.1:70b", &rest),
        ("/v1/responses", "gpt", &rest),
        ("/v1/rerank", "llama3.1:8b", &one),
    ] {
        let body = chat(model).replace("\"model\":\"", "\"mod\\u0065l\" :\t\"");
        let (head, answer) =
            ask(gateway.address, path, "authorization: Bearer mine\r\nx-own: 1\r\n", &body).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let call = server.calls().pop().unwrap();
        assert_eq!(
            (call.target.as_str(), &*call.body, answer.as_bytes()),
            (path, body.as_bytes(), body.as_bytes())
        );
        assert_eq!(call.headers["content-length"], body.len().to_string());
        assert!(!call.headers.contains_key("transfer-encoding"));
        assert_eq!(
            (&call.headers["authorization"], &call.headers["x-own"]),
            (&"Bearer mine".parse().unwrap(), &"1".parse().unwrap())
        );
    }
    let counts = [&one, &two, &rest].map(|server| server.calls().len());
    assert_eq!(counts, [3, 1, 2]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_gets_one_and_a_client_that_asks_first_is_answered() {
    let server = ModelServer::start(&[]).await;
    let gateway = gateway(vec![pool("one", &[&server], &["m"])]).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"5\r\n{\"mod\r\n8\r\nel\":\"m\"}\r\n0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"model\":\"m\"}"), "{answer}");
    let call = server.calls().pop().unwrap();
    assert_eq!(call.headers["content-length"], "13");
    assert!(!call.headers.contains_key("expect") && !call.headers.contains_key("transfer-encoding"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_shown_to_the_gateway_is_shown_to_no_server_and_a_servers_key_is_not_the_clients_to_drop() {
    let (server, keyless, folder) =
        (ModelServer::start(&["m"]).await, ModelServer::start(&["n"]).await, tempfile::tempdir().unwrap());
    let keys = folder.path().join("keys.toml");
    let hash: String = Sha256::digest("s3cret").iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&keys, format!("[[keys]]\nid = \"ada1\"\nsha256 = \"{hash}\"\nuser = \"ada\"\n")).unwrap();
    let mut provider = pool("provider", &[&server], &["m"]);
    provider.models.as_mut().unwrap().api_key = "weft_of_another_gateway".into();
    let mut config = configured(vec![provider, pool("own", &[&keyless], &["n"])]);
    config.auth.api_keys = Some(keys);
    config.routes[0].pool = "own".to_owned();
    let gateway = started(config).await;
    let shown = "authorization: Bearer weft_ada1_s3cret\r\n";
    let (head, body) = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
    assert_eq!(error(&(head, body)).1, "authentication_error");
    for more in ["", "connection: authorization\r\n"] {
        let (head, _) =
            ask(gateway.address, "/v1/chat/completions", &format!("{shown}{more}"), &chat("m")).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert_eq!(server.calls().pop().unwrap().headers["authorization"], "Bearer weft_of_another_gateway");
    }
    for path in ["/v1/chat/completions", "/v1/audio/speech"] {
        ask(gateway.address, path, shown, &chat("n")).await;
        let asked = keyless.calls().pop().unwrap();
        assert_eq!((asked.target.as_str(), asked.headers.get("authorization")), (path, None));
        assert_eq!(asked.headers.get("weft-user"), None, "whoever runs a model need not know");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn servers_are_asked_where_their_api_is_and_with_their_own_key() {
    let (server, folder) = (ModelServer::start(&["m"]).await, tempfile::tempdir().unwrap());
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-1\n").unwrap();
    let mut pool = pool("provider", &[&server], &[]);
    let models = pool.models.as_mut().unwrap();
    models.base_path = "/api/openai/v1/".into();
    models.host = Some("api.example".into());
    models.api_key_file = Some(file.clone());
    let mut config = configured(vec![pool]);
    config.routes[0].path_prefix = Some("/llm/".into());
    let gateway = started(config).await;
    let call = async || {
        let (head, _) =
            ask(gateway.address, "/llm/chat/completions?a=b", "authorization: Bearer mine\r\n", &chat("m"))
                .await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        server.calls().pop().unwrap()
    };
    let asked = call().await;
    assert_eq!(asked.target, "/api/openai/v1/chat/completions?a=b");
    assert_eq!(
        (&asked.headers["host"], &asked.headers["authorization"]),
        (&"api.example".parse().unwrap(), &"Bearer sk-1".parse().unwrap())
    );
    let listed = server.listed().pop().unwrap();
    assert_eq!(listed.target, "/api/openai/v1/models");
    assert_eq!(
        (&listed.headers["host"], &listed.headers["authorization"]),
        (&"api.example".parse().unwrap(), &"Bearer sk-1".parse().unwrap())
    );
    std::fs::write(&file, "sk-2\n").unwrap();
    eventually(LIMIT, || async { call().await.headers["authorization"] == "Bearer sk-2" }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said_as_clients_expect_it() {
    let server = ModelServer::start(&[]).await;
    let mut config = configured(vec![pool("one", &[&server], &["m"])]);
    config.routes[0].max_request_bytes = Some(1000);
    let gateway = started(config).await;
    let large = chat(&"m".repeat(1000));
    let (model, none) = (Value::from("model"), Value::Null);
    for (path, headers, body, status, param, code) in [
        ("chat/completions", "", chat("n").as_str(), 404, &model, "model_not_found"),
        ("completions", "", "{}", 400, &model, "invalid_model"),
        ("embeddings", "", r#"{"model":1}"#, 400, &model, "invalid_model"),
        ("chat/completions", "", r#"{"model":"m","mod\u0065l":"m"}"#, 400, &model, "invalid_model"),
        ("chat/completions", "", r#"{"model":"m""#, 400, &none, "invalid_json"),
        ("chat/completions", "", "[]", 400, &none, "invalid_json"),
        ("chat/completions", "content-encoding: gzip\r\n", "x", 415, &none, "unsupported_encoding"),
        ("chat/completions", "", &large, 413, &none, "request_too_large"),
        ("audio/transcriptions", "", "x", 404, &none, "unknown_url"),
        ("models", "", "{}", 404, &none, "unknown_url"),
        (
            "chat/completions",
            "content-type: application/grpc\r\n",
            r#"{"model":"m"}"#,
            404,
            &none,
            "unknown_url",
        ),
    ] {
        let answer = ask(gateway.address, &format!("/v1/{path}"), headers, body).await;
        let expected = (status, "invalid_request_error".to_owned(), param.clone(), code.to_owned());
        assert_eq!(error(&answer), expected, "{path} {body}");
    }
    // As it comes, without a length that says so.
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = split(&http(gateway.address, &format!("{head}{chunked}")).await);
    assert_eq!(error(&answer).0, 413);
    assert_eq!(server.calls().len(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_no_call_of_a_model_goes_to_the_routes_own_pool() {
    let (own, server) = (ModelServer::start(&[]).await, ModelServer::start(&[]).await);
    let mut config = configured(vec![pool("one", &[&server], &["m"]), pool("own", &[&own], &["none"])]);
    config.pools[1].models = None;
    config.routes[0].pool = "own".into();
    let gateway = started(config).await;
    let multipart = "content-type: multipart/form-data; boundary=x\r\n";
    let (_, body) = ask(gateway.address, "/v1/audio/transcriptions", multipart, "--x--").await;
    assert_eq!((body.as_str(), own.calls().len()), ("--x--", 1));
    let answer = ask(gateway.address, "/v1/chat/completions", "", &chat("n")).await;
    assert_eq!(error(&answer).0, 404, "a call stays one");
    ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
    assert_eq!((own.calls().len(), server.calls().len()), (1, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn an_event_is_passed_on_before_the_next_is_sent() {
    let server = ModelServer::start(&[]).await;
    let gateway = gateway(vec![pool("one", &[&server], &["m"])]).await;
    let (events, receiver) = mpsc::channel(1);
    server.answers(Answer::Stream(receiver));
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let body = chat("m");
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut seen = String::new();
    // Cut where nobody would: in a line, and in what ends it.
    let parts = [
        "data: {\"a\":1}\n\n",
        "dat",
        "a: {\"b\":\"",
        "2\"}\r",
        "\n\r\n",
        ": still here\n\n",
        "data: [DONE]\n\n",
    ];
    for part in parts {
        events.send(part).await.unwrap();
        while !seen.contains(part) {
            let mut bytes = [0; 1024];
            let read = timeout(LIMIT, stream.read(&mut bytes)).await.unwrap().unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }
    assert!(seen.contains("content-type: text/event-stream; charset=utf-8"), "{seen}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_gateways_own_limits_are_told_in_the_same_form() {
    let server = ModelServer::start(&[]).await;
    let mut config = configured(vec![pool("one", &[&server], &["m"])]);
    let limit = RateLimit { requests: 1, per: Duration::from_secs(60), burst: Some(1), key: "route".into() };
    config.routes[0].rate_limits = vec![limit];
    let gateway = started(config).await;
    let (head, _) = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("ratelimit-policy"), "{head}");
    let answer = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
    let expected = (429, "rate_limit_error".to_owned(), Value::Null, "rate_limited".to_owned());
    assert_eq!(error(&answer), expected);
    assert!(answer.0.contains("retry-after: "), "{}", answer.0);
    gateway.stop().await;
}
