//! What is meant for one client is given to no other, and no request reaches another server than the configured.

use reqwest::{Method, redirect::Policy};

use super::{get, text, told, with_origin};
use crate::{
    rig::Rig,
    upstream::{Page, Upstream},
};

with_origin!(
    what_is_for_one_client_is_not_kept,
    the_origin_is_told_of_no_client_what_is_kept,
    what_only_a_known_client_may_have_is_passed_on,
    other_methods_go_through_and_change_what_is_kept,
    redirects_are_passed_on,
    paths_that_climb_are_refused,
    a_circle_ends,
    nothing_is_fetched_for_who_wants_what_is_kept,
);

async fn what_is_for_one_client_is_not_kept(rig: Rig, origin: Upstream) {
    let long_lived = ("cache-control", "public, max-age=600");
    for (n, page) in [
        Page::css("x").header("cache-control", "private, max-age=600"),
        Page::css("x").header("cache-control", "no-store"),
        Page::css("x").header(long_lived.0, long_lived.1).header("set-cookie", "session=1"),
        Page::css("x").header(long_lived.0, long_lived.1).header("vary", "*"),
        Page::css("x").header(long_lived.0, long_lived.1).header("vary", "Cookie"),
        Page::css("x").header(long_lived.0, long_lived.1).header("content-encoding", "gzip"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/static/{n}.css");
        origin.give(&path, page);
        let mut seen = 0;
        for _ in 0..3 {
            let (status, account, _) = get(&rig, &path).await;
            assert!(status == 200 && account.starts_with("weft; fwd=miss"), "{n}: {account}");
            let asked = origin.asked(&path).len();
            assert!(asked > seen, "{n}: each client asks for itself");
            seen = asked;
        }
    }
    let cookie = rig.get("/static/2.css").send().await.unwrap();
    assert_eq!(text(cookie.headers(), "set-cookie"), "session=1");
    // With credentials nothing is taken from what is kept, and nothing given to it.
    origin.script("/static/mine.css", |asked| {
        Page::css(asked.header("authorization").unwrap_or("nobody's")).header("cache-control", "max-age=600")
    });
    for user in ["alice", "bob"] {
        let response = rig.get("/static/mine.css").header("authorization", user).send().await.unwrap();
        assert_eq!(told(response).await.2, user);
    }
    assert_eq!(get(&rig, "/static/mine.css").await.2, "nobody's");
}

async fn the_origin_is_told_of_no_client_what_is_kept(rig: Rig, origin: Upstream) {
    let path = "/static/site.css";
    origin.script(path, |asked| {
        let poison = asked.header("x-forwarded-host").or(asked.header("cookie")).unwrap_or("clean");
        Page::css(poison).header("cache-control", "max-age=600")
    });
    let poisoned = rig.get(path).header("x-forwarded-host", "evil.example").header("cookie", "a=b");
    assert_eq!(told(poisoned.send().await.unwrap()).await.2, "clean");
    assert_eq!(get(&rig, path).await.2, "clean");
    let asked = &origin.asked(path)[0];
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent", "via"]);
}

async fn what_only_a_known_client_may_have_is_passed_on(rig: Rig, origin: Upstream) {
    let path = "/static/members.css";
    origin.script(path, |asked| match asked.header("cookie") {
        Some("member=1") => Page::css("for members").header("cache-control", "max-age=600"),
        _ => Page::css("sign in").status(403),
    });
    for _ in 0..2 {
        let member = rig.get(path).header("cookie", "member=1").send().await.unwrap();
        assert_eq!(told(member).await.2, "for members");
        let stranger = get(&rig, path).await;
        assert_eq!((stranger.0.as_u16(), stranger.2.as_str()), (403, "sign in"));
    }
}

async fn other_methods_go_through_and_change_what_is_kept(rig: Rig, origin: Upstream) {
    let path = "/static/a.css";
    origin.script(path, |asked| match asked.method.as_str() {
        "GET" => Page::css("one").header("cache-control", "max-age=600"),
        "OPTIONS" => Page::css("").header("allow", "GET"),
        "DELETE" => Page::css("no").status(403),
        _ => Page::new("text/plain", asked.body.clone()).status(201),
    });
    assert_eq!(get(&rig, path).await.2, "one");
    super::kept(&rig, path).await;
    let url = format!("{}{path}", rig.base);
    for (method, status) in [(Method::OPTIONS, 200), (Method::DELETE, 403)] {
        let response = rig.http.request(method, &url).send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            text(response.headers(), "cache-status"),
            format!("weft; fwd=method; fwd-status={status}")
        );
    }
    assert!(get(&rig, path).await.1.starts_with("weft; hit"), "nothing was changed");
    let body = vec![b'x'; 3_000_000];
    let posted = rig.http.post(&url).header("cookie", "a=b").body(body.clone()).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), posted.bytes().await.unwrap()), (201, body.into()));
    let asked = origin.asked(path).into_iter().find(|asked| asked.method == "POST").unwrap();
    assert_eq!(asked.header("cookie"), Some("a=b"));
    assert!(get(&rig, path).await.1.starts_with("weft; fwd=miss"), "what was kept may have changed");
}

async fn redirects_are_passed_on(rig: Rig, origin: Upstream) {
    let elsewhere = Upstream::start().await;
    let to = format!("{}/static/secret.css", elsewhere.url());
    origin.give("/static/a.css", Page::css("").status(302).header("location", &to));
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    for authorization in [false, true] {
        let request = client.get(format!("{}/static/a.css", rig.base));
        let request = if authorization { request.header("authorization", "x") } else { request };
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), text(response.headers(), "location")), (302, &*to));
    }
    assert!(elsewhere.all().is_empty());
}

async fn paths_that_climb_are_refused(rig: Rig, origin: Upstream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    // No client library sends such paths as they are.
    for (path, status) in [
        ("/static/../secret", 400),
        ("/static/%2e%2e/secret", 400),
        ("/static/..%2fsecret", 400),
        ("/static/..%5csecret", 400),
        ("/static/x/%2E%2E/%2e./secret", 400),
        ("/static/%00", 400),
        ("/static/%zz", 400),
        ("/other/x", 404),
        ("http://evil.example/static/site.css", 404),
        ("//evil.example/static/site.css", 404),
        ("/static/@evil.example/site.css", 404),
        ("/static//evil.example/site.css", 404),
    ] {
        let mut stream =
            tokio::net::TcpStream::connect(rig.base.trim_start_matches("http://")).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    let own = origin.url();
    for asked in origin.all() {
        assert!(asked.path.starts_with("/static/") && !asked.path.contains(".."), "{}", asked.path);
        assert_eq!(asked.header("host"), Some(own.trim_start_matches("http://")));
    }
}

async fn a_circle_ends(rig: Rig, origin: Upstream) {
    let via = "1.1 weft-assets, 1.1 weft-assets, 1.1 weft-assets, 1.1 weft-assets";
    let response = rig.get("/static/a.css").header("via", via).send().await.unwrap();
    assert_eq!(response.status(), 508);
    assert!(origin.all().is_empty());
}

async fn nothing_is_fetched_for_who_wants_what_is_kept(rig: Rig, origin: Upstream) {
    origin.give("/static/a.css", Page::css("a").header("cache-control", "max-age=600"));
    let only = || rig.get("/static/a.css").header("cache-control", "only-if-cached").send();
    assert_eq!(only().await.unwrap().status(), 504);
    assert!(origin.all().is_empty());
    get(&rig, "/static/a.css").await;
    assert_eq!(only().await.unwrap().status(), 200);
}
