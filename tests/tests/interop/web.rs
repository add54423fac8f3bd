//! Clients that do not speak gRPC, before servers that speak nothing else.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_runtime::Running;

use crate::{
    contract::DESCRIPTORS,
    events::Events,
    gateway::{at_rest, gateway_with},
    peer::{Guard, Peer},
};

/// Two servers behind a gateway that knows their contract.
async fn scene() -> (Running, [Guard; 2]) {
    let events = Events::default();
    let (first, one) = Peer::Rust.serve(0, &events).await;
    let (second, two) = Peer::Rust.serve(1, &events).await;
    let gateway =
        gateway_with(&[first, second], |config| config.descriptor_sets = vec![DESCRIPTORS.to_owned()]).await;
    (gateway, [one, two])
}

/// Posts to a method as `curl -d` does: the status line, the headers and the body.
async fn post(address: SocketAddr, method: &str, headers: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /grpc.testing.TestService/{method} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a_method_is_called_in_json_as_curl_does() {
    let (gateway, _servers) = scene().await;
    let (head, body) = post(gateway.address, "EmptyCall", FORM, "{}").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, "{}");
    let request = json!({ "responseSize": 3, "payload": { "body": "AAAA" } }).to_string();
    let more = format!("{JSON}x-grpc-test-echo-initial: seen\r\nx-grpc-test-echo-trailing-bin: AAH/\r\n");
    let (head, body) = post(gateway.address, "UnaryCall", &more, &request).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({ "payload": { "body": "AAAA" } }));
    assert!(head.contains("x-grpc-test-echo-initial: seen"), "{head}");
    assert!(head.contains("trailer-x-grpc-test-echo-trailing-bin: AAH/"), "{head}");
    assert!(!head.contains("grpc-status"), "{head}");
    at_rest(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_fails_says_so_in_json_with_a_status_of_http() {
    let (gateway, _servers) = scene().await;
    let failed = async |method: &str, headers: &str, body: &str| {
        let (head, body) = post(gateway.address, method, headers, body).await;
        let error: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{head} {body}"));
        (head.split(' ').nth(1).unwrap().to_owned(), error)
    };
    let status = json!({ "responseStatus": { "code": 6, "message": "it is there" } }).to_string();
    let (status, error) = failed("UnaryCall", JSON, &status).await;
    assert_eq!(
        (status.as_str(), &error),
        ("409", &json!({ "code": "already_exists", "message": "it is there" }))
    );
    let (status, error) = failed("UnaryCall", JSON, r#"{"responseSise": 3}"#).await;
    assert_eq!((status.as_str(), error["code"].as_str()), ("400", Some("invalid_argument")));
    assert!(error["message"].as_str().unwrap().contains("responseSise"), "{error}");
    let (status, error) = failed("EmptyCall", &format!("{JSON}content-encoding: gzip\r\n"), "{}").await;
    assert_eq!((status.as_str(), error["code"].as_str()), ("501", Some("unimplemented")));
    let (status, error) = failed("EmptyCall", &format!("{JSON}connect-timeout-ms: soon\r\n"), "{}").await;
    assert_eq!((status.as_str(), error["code"].as_str()), ("400", Some("invalid_argument")));
    let large = format!("{{\"payload\": {{\"body\": \"{}\"}}}}", "A".repeat(4 * 1024 * 1024));
    let (status, error) = failed("UnaryCall", JSON, &large).await;
    assert_eq!((status.as_str(), error["code"].as_str()), ("429", Some("resource_exhausted")));
    // What is not of the contract, or may come from a web page that did not ask, is none of these calls.
    for (method, headers) in
        [("Nothing", JSON), ("EmptyCall", &format!("{FORM}origin: https://evil.example\r\n"))]
    {
        let (head, body) = post(gateway.address, method, headers, "{}").await;
        assert!(head.starts_with("HTTP/1.1 404") && body.contains("NO_ROUTE"), "{head} {body}");
    }
    let (head, _) = post(gateway.address, "StreamingOutputCall", JSON, "{}").await;
    assert!(head.starts_with("HTTP/1.1 415") && head.contains("application/connect+json"), "{head}");
    at_rest(&gateway).await;
    gateway.stop().await;
}

#[cfg(feature = "real-backends")]
#[tokio::test]
async fn the_connect_library_calls_over_its_own_protocol_and_grpc_web() {
    let (gateway, _servers) = scene().await;
    let port = gateway.address.port().to_string();
    let (passed, said) = crate::peer::foreign::run("connect-node", "node/web.mjs", &[&port]).await;
    // Six transports, nine cases each.
    assert!(passed && said.trim() == "passed 54", "{said}");
    at_rest(&gateway).await;
    gateway.stop().await;
}
