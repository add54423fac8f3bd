//! Requests of the web: where they are sent, what is written anew, what is said of who asks, what is refused.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_gateway::{Cors, HeaderMatch, HealthKind, Redirect, Rewrite, Route};
use weft_runtime::Running;

use crate::{backend::TestBackend, client::http, config, started};

async fn gateway(backend: &TestBackend, routes: Vec<Route>) -> Running {
    let mut config = config(&[], &[backend.address], HealthKind::Tcp);
    config.routes.splice(0..0, routes);
    started(config).await
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    http(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: chat.example:81\r\nconnection: close\r\n{headers}\r\n"),
    )
    .await
}

#[tokio::test]
async fn a_backend_is_asked_for_what_the_route_writes_and_told_who_asks() {
    let backend = TestBackend::start().await;
    let rewrite = Rewrite { path: Some("/v2/".into()), host: Some("inner.example".into()) };
    let route = Route { rewrite, ..Route::path("/api/", "web") };
    let gateway = gateway(&backend, vec![route]).await;
    let answer = get(gateway.address, "/api/x/Headers?q=%2e%2e/", "x-forwarded-for: 1.2.3.4\r\n").await;
    for expected in [
        "/v2/x/Headers?q=%2e%2e/ {",
        "\"host\": \"inner.example\"",
        "\"x-forwarded-host\": \"chat.example:81\"",
        "\"x-forwarded-for\": \"127.0.0.1\"",
        "\"x-forwarded-proto\": \"http\"",
        "\"x-real-ip\": \"127.0.0.1\"",
    ] {
        assert!(answer.contains(expected), "{expected} is not in {answer}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_host_of_the_target_counts_and_not_a_second_one() {
    let backend = TestBackend::start().await;
    let inner = Route { host: Some("inner.example".into()), ..Route::path("/", "web") };
    let gateway = gateway(&backend, vec![inner]).await;
    let absolute =
        "GET http://inner.example/x/Headers HTTP/1.1\r\nhost: outer.example\r\nconnection: close\r\n\r\n";
    let answer = http(gateway.address, absolute).await;
    assert!(answer.contains("/x/Headers {") && answer.contains("\"host\": \"inner.example\""), "{answer}");
    assert!(!answer.contains("outer.example"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_is_chosen_by_method_and_headers_and_may_send_elsewhere() {
    let backend = TestBackend::start().await;
    let moved = Redirect { path: Some("/web/".into()), status: 308, ..Redirect::default() };
    let beta = HeaderMatch { name: "x-beta".into(), value: Some("1".into()) };
    let gateway = gateway(
        &backend,
        vec![
            Route { redirect: Some(moved), pool: String::new(), ..Route::path("/old/", "") },
            Route { methods: vec!["POST".into()], headers: vec![beta], ..Route::path("/new/", "web") },
        ],
    )
    .await;
    let answer = get(gateway.address, "/old/Get?a=b", "").await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("location: /web/Get?a=b\r\n"), "{answer}");
    let post = |headers: &str| {
        format!(
            "POST /new/Echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n{headers}\r\nhi"
        )
    };
    assert!(http(gateway.address, &post("x-beta: 1\r\n")).await.contains("\r\nhi\r\n"));
    assert!(http(gateway.address, &post("")).await.starts_with("HTTP/1.1 404"));
    assert!(get(gateway.address, "/new/Echo", "x-beta: 1\r\n").await.starts_with("HTTP/1.1 404"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_no_route_should_see_is_refused_with_a_reason() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&backend, Vec::new()).await;
    for path in ["/web/../Headers", "/web/%2e%2E/Headers", "/web/..%2fHeaders"] {
        let answer = get(gateway.address, path, "").await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("INVALID_PATH"), "{answer}");
    }
    for request in ["CONNECT inner.example:22 HTTP/1.1", "TRACE /web/Headers HTTP/1.1"] {
        let request = format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = http(gateway.address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("METHOD_NOT_ALLOWED"), "{answer}");
    }
    assert_eq!(backend.calls(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_may_take_more_than_the_others() {
    let backend = TestBackend::start().await;
    let mut config = config(&[], &[backend.address], HealthKind::Tcp);
    config.overload.max_request_bytes = 4;
    config.routes.push(Route { max_request_bytes: Some(0), ..Route::path("/web/upload/", "web") });
    let gateway = started(config).await;
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
    };
    let answer = http(gateway.address, &post("/web/Echo")).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("REQUEST_TOO_LARGE"), "{answer}");
    assert!(http(gateway.address, &post("/web/upload/Echo")).await.contains("\r\nhello\r\n"));
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_a_listed_origin_may_call_and_read_refusals_too() {
    let backend = TestBackend::start().await;
    let cors = || Some(Cors { origins: vec!["https://chat.example".into()], ..Cors::default() });
    let routes = vec![
        Route { cors: cors(), max_request_bytes: Some(2), ..Route::path("/web/shared/", "web") },
        Route { cors: cors(), methods: vec!["POST".into()], ..Route::path("/web/own/", "web") },
    ];
    let gateway = gateway(&backend, routes).await;
    let ask = async |method: &str, path: &str, origin: &str, more: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        http(gateway.address, &format!("{head}origin: {origin}\r\n{more}\r\n")).await
    };
    let (page, other) = ("https://chat.example", "https://evil.example");
    let preflight = "access-control-request-method: POST\r\naccess-control-request-headers: x-a\r\n";
    let answer = ask("OPTIONS", "/web/shared/Get", page, preflight).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    for expected in [
        "access-control-allow-origin: https://chat.example",
        "access-control-allow-methods: POST",
        "access-control-allow-headers: x-a",
        "access-control-max-age: 3600",
    ] {
        assert!(answer.contains(expected), "{expected} is not in {answer}");
    }
    let answer = ask("OPTIONS", "/web/shared/Get", other, preflight).await;
    assert!(answer.starts_with("HTTP/1.1 204") && !answer.contains("allow-origin"), "{answer}");
    assert_eq!(backend.calls(), 0, "it is answered here");

    let allowed = "access-control-allow-origin: https://chat.example";
    assert!(ask("GET", "/web/shared/Get", page, "").await.contains(allowed));
    let answer = ask("GET", "/web/shared/Get", other, "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("allow-origin"), "{answer}");
    assert!(answer.contains("vary: origin"), "{answer}");
    let refused = ask("POST", "/web/shared/Echo", page, "content-length: 3\r\n\r\nabc").await;
    assert!(refused.starts_with("HTTP/1.1 413") && refused.contains(allowed), "{refused}");
    // A route is found by the method that is to come; without `cors` the backend answers.
    assert!(ask("OPTIONS", "/web/own/Get", page, preflight).await.contains(allowed));
    let get = "access-control-request-method: GET\r\n";
    assert!(!ask("OPTIONS", "/web/own/Get", page, get).await.contains("allow-origin"));
    gateway.stop().await;
}

#[tokio::test]
async fn large_headers_pass_and_larger_ones_are_refused() {
    let backend = TestBackend::start().await;
    let mut config = config(&[], &[backend.address], HealthKind::Tcp);
    config.lifecycle.max_header_bytes = 128 * 1024;
    let gateway = started(config).await;
    let cookie = |bytes: usize| format!("cookie: {}\r\n", "x".repeat(bytes));
    let answer = get(gateway.address, "/web/Headers", &cookie(100_000)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.len() > 100_000, "{}", answer.len());
    let answer = get(gateway.address, "/web/Headers", &cookie(200_000)).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_of_chunks_is_passed_on_as_it_comes() {
    let backend = TestBackend::start().await;
    let gateway = gateway(&backend, Vec::new()).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /web/Echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for i in 0..50 {
        let event = format!("data: token {i}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        while !seen.contains(&event) {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }
    gateway.stop().await;
}
