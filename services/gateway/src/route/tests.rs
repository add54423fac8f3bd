//! Which route counts, and what becomes of a request's target.

use http::{HeaderMap, Uri};

use super::*;
use crate::config::{HeaderMatch, Redirect, Rewrite};

fn pool<'a>(routes: &'a Routes, view: View<'_>) -> Option<&'a str> {
    routes.find(view).map(|rule| routes.rules()[rule].pool.as_str())
}

fn none() -> &'static HeaderMap {
    static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    &NONE
}

fn grpc(path: &str) -> View<'_> {
    View { grpc: true, method: "POST", host: "x:1", path, headers: none() }
}

fn http<'a>(host: &'a str, path: &'a str) -> View<'a> {
    View { grpc: false, method: "GET", host, path, headers: none() }
}

fn host(host: &str, prefix: Option<&str>, pool: &str) -> Route {
    Route {
        host: Some(host.into()),
        path_prefix: prefix.map(Into::into),
        pool: pool.into(),
        ..Route::default()
    }
}

#[test]
fn the_longest_service_pattern_wins() {
    let routes = Routes::new(&[
        Route::grpc("*", "any"),
        Route::grpc("a.b.*", "ab"),
        Route::grpc("a.b.Chat", "chat"),
        Route::grpc("a.*", "a"),
    ]);
    assert_eq!(pool(&routes, grpc("/a.b.Chat/Get")), Some("chat"));
    assert_eq!(pool(&routes, grpc("/a.b.ChatRoom/Get")), Some("ab"));
    assert_eq!(pool(&routes, grpc("/a.c.X/Get")), Some("a"));
    assert_eq!(pool(&routes, grpc("/z.X/Get")), Some("any"));
    let routes = Routes::new(&[Route::grpc("a.*", "a")]);
    assert_eq!(pool(&routes, grpc("/b.X/Get")), None);
    assert_eq!(pool(&routes, grpc("garbage")), None);
}

#[test]
fn a_host_counts_before_the_longest_path() {
    let routes = Routes::new(&[
        Route::path("/", "any"),
        Route::path("/assets/", "assets"),
        host("Chat.example.com", None, "chat"),
        host("chat.example.com", Some("/api/"), "api"),
    ]);
    assert_eq!(pool(&routes, http("chat.example.com:7080", "/assets/x")), Some("chat"));
    assert_eq!(pool(&routes, http("CHAT.example.com", "/api/x")), Some("api"));
    assert_eq!(pool(&routes, http("other", "/assets/x")), Some("assets"));
    assert_eq!(pool(&routes, http("[::1]:80", "/x")), Some("any"));
}

#[test]
fn a_star_stands_for_one_or_more_labels() {
    let routes = Routes::new(&[
        host("*.example.com", None, "all"),
        host("*.eu.example.com", None, "eu"),
        host("a.eu.example.com", None, "a"),
    ]);
    assert_eq!(pool(&routes, http("a.eu.example.com", "/")), Some("a"));
    assert_eq!(pool(&routes, http("B.EU.example.com", "/")), Some("eu"));
    assert_eq!(pool(&routes, http("x.y.example.com", "/")), Some("all"));
    assert_eq!(pool(&routes, http("example.com", "/")), None);
    assert_eq!(pool(&routes, http(".example.com", "/")), None);
    assert_eq!(pool(&routes, http("badexample.com", "/")), None);
    assert_eq!(pool(&routes, http("é.example.com", "/")), Some("all"), "and no panic at a boundary");
}

#[test]
fn a_path_counts_before_a_prefix_then_methods_then_headers() {
    let canary = |value: Option<&str>| HeaderMatch { name: "X-Canary".into(), value: value.map(Into::into) };
    let exact = Route { path: Some("/api/chat".into()), path_prefix: None, ..Route::path("", "exact") };
    let posted = Route { methods: vec!["POST".into()], ..Route::path("/api/", "posted") };
    let marked = Route { headers: vec![canary(Some("1"))], ..Route::path("/api/", "marked") };
    let present = Route { headers: vec![canary(None)], ..Route::path("/", "present") };
    let routes = Routes::new(&[Route::path("/api/", "api"), marked, posted, exact, present]);
    let mut headers = HeaderMap::new();
    assert_eq!(pool(&routes, http("x", "/api/chat")), Some("exact"));
    assert_eq!(pool(&routes, http("x", "/api/chat/1")), Some("api"));
    assert_eq!(pool(&routes, View { method: "POST", ..http("x", "/api/x") }), Some("posted"));
    assert_eq!(pool(&routes, http("x", "/")), None);
    headers.append("x-canary", "0".parse().unwrap());
    assert_eq!(pool(&routes, View { headers: &headers, ..http("x", "/api/x") }), Some("api"));
    assert_eq!(pool(&routes, View { headers: &headers, ..http("x", "/") }), Some("present"));
    headers.append("x-canary", "1".parse().unwrap());
    assert_eq!(pool(&routes, View { headers: &headers, ..http("x", "/api/x") }), Some("marked"));
    let both = View { method: "POST", headers: &headers, ..http("x", "/api/x") };
    assert_eq!(pool(&routes, both), Some("posted"), "a method counts before headers");
}

#[test]
fn metadata_choose_between_routes_of_a_service() {
    let canary = HeaderMatch { name: "x-canary".into(), value: Some("1".into()) };
    let routes = Routes::new(&[
        Route::grpc("a.Chat", "chat"),
        Route { headers: vec![canary], ..Route::grpc("a.Chat", "canary") },
    ]);
    let mut headers = HeaderMap::new();
    assert_eq!(pool(&routes, grpc("/a.Chat/Get")), Some("chat"));
    headers.insert("x-canary", "1".parse().unwrap());
    assert_eq!(pool(&routes, View { headers: &headers, ..grpc("/a.Chat/Get") }), Some("canary"));
}

#[test]
fn grpc_without_a_service_route_falls_back_to_paths() {
    let routes = Routes::new(&[Route::grpc("a.*", "a"), Route::path("/b.", "b")]);
    assert_eq!(pool(&routes, grpc("/b.X/Get")), Some("b"));
    assert_eq!(pool(&routes, http("x", "/a.X/Get")), None, "a service route is for gRPC only");
}

#[test]
fn a_prefix_is_replaced_and_the_query_stays() {
    let rewrite = |route: Route, path: &str| {
        let route = Route { rewrite: Rewrite { path: Some(path.into()), host: None }, ..route };
        Routes::new(&[route]).rules()[0].rewriting.clone()
    };
    let uri = Uri::from_static("/api/v1/chat?a=%2F&b");
    let rewritten = |rewriting: &Rewriting| rewriting.path_and_query(&uri).map(|path| path.to_string());
    let rewriting = rewrite(Route::path("/api/", "x"), "/");
    assert_eq!(rewritten(&rewriting).as_deref(), Some("/v1/chat?a=%2F&b"));
    let exact = Route { path: Some("/api/v1/chat".into()), ..Route::default() };
    assert_eq!(rewritten(&rewrite(exact, "/chat")).as_deref(), Some("/chat?a=%2F&b"));
    assert_eq!(rewritten(&rewrite(Route::default(), "/base/")).as_deref(), Some("/base/api/v1/chat?a=%2F&b"));
    assert_eq!(rewritten(&Rewriting::default()), None);
}

#[test]
fn a_redirect_keeps_what_it_does_not_name() {
    let location = |redirect: Redirect, uri: &str| {
        let route = Route { redirect: Some(redirect), ..Route::path("/old/", "") };
        let uri: Uri = uri.parse().unwrap();
        let rule = Routes::new(&[route]).rules()[0].clone();
        rule.redirection.unwrap().location(http("chat.example.com:80", uri.path()), &uri, "http")
    };
    let to = |path: &str| Redirect { path: Some(path.into()), ..Redirect::default() };
    assert_eq!(location(to("/new/"), "/old/a?b=c"), "/new/a?b=c");
    let secure = Redirect { scheme: Some("https".into()), host: Some("chat.example.com".into()), ..to("/") };
    assert_eq!(location(secure, "/old/a"), "https://chat.example.com/a");
    let elsewhere = Redirect { host: Some("b:81".into()), ..Redirect::default() };
    assert_eq!(location(elsewhere, "/old/a"), "http://b:81/old/a");
    let scheme = Redirect { scheme: Some("https".into()), ..Redirect::default() };
    assert_eq!(location(scheme, "/old/a"), "https://chat.example.com:80/old/a");
    assert_eq!(location(to("/"), "/old//evil.example/"), "/evil.example/", "a path, never a host");
}

#[test]
fn segments_of_dots_are_seen_however_they_are_written() {
    for path in ["/", "/a/b.c/.well-known", "/a/...", "/a%20b", "/..a", "/a;b/c", "/%2e%2e%2e/x", "/a%2Fb"] {
        assert!(is_plain(path), "{path}");
    }
    for path in [
        "/..",
        "/../x",
        "/a/./b",
        "/a/..",
        "/%2e%2E/x",
        "/.%2e/x",
        "/a/..;v=1/b",
        "/a/%2e",
        "/a\\..\\b",
        "/a%5c..%5cb",
        "/a%2f..%2fb",
        "/x/..%2fy",
    ] {
        assert!(!is_plain(path), "{path}");
    }
}

#[test]
fn a_path_is_matched_as_most_servers_read_it() {
    for (path, normal) in [
        ("/a/b%20c", "/a/b%20c"),
        ("//admin/x", "/admin/x"),
        ("/a///b", "/a/b"),
        ("/%61dmin/%7Ex", "/admin/~x"),
        ("/a%2Fb%2", "/a%2Fb%2"),
        ("/%zz%+1%", "/%zz%+1%"),
        ("/%c3%a9", "/%C3%A9"),
    ] {
        assert_eq!(normalised(path), normal);
        assert_eq!(normalised(normal), normal, "once is enough");
    }
    let routes = Routes::new(&[Route::path("/", "any"), Route::path("/admin/", "admin")]);
    assert_eq!(pool(&routes, http("x.", &normalised("//%61dmin/x"))), Some("admin"));
    let routes = Routes::new(&[host("admin.example", None, "admin"), Route::path("/", "any")]);
    assert_eq!(pool(&routes, http("admin.example.:80", "/")), Some("admin"));
}

#[test]
fn the_other_reading_of_a_path_decodes_all_of_it() {
    assert_eq!(decoded("/a/b"), None);
    assert_eq!(decoded("/a%20b").as_deref(), Some("/a b"));
    assert_eq!(decoded("/a%2Fb%2f%61").as_deref(), Some("/a/b/a"));
    assert_eq!(decoded("/a%5cb\\c").as_deref(), Some("/a/b/c"));
    assert_eq!(decoded("/a/%2F/b").as_deref(), Some("/a/b"));
    assert_eq!(decoded("/x%3Arun").as_deref(), Some("/x:run"));
    assert_eq!(decoded("/caf%c3%a9").as_deref(), Some("/café"));
    assert_eq!(normalised("/caf%c3%a9/%7e"), "/caf%C3%A9/~");
}
