//! Files of other servers: what is kept, for how long, for whom, and what happens while the origin fails.

use std::time::Duration;

use reqwest::{Response, StatusCode, header::HeaderMap};
use weft_assets::{Config, config::OriginConfig};
use weft_testkit::eventually;

use crate::{
    rig::{Rig, sample},
    upstream::{Page, Upstream},
};

mod failure;
mod keys;
mod privacy;
mod storage;

/// How long anything may take.
const SOON: Duration = Duration::from_secs(20);

/// Stale from the first moment, so that no test has to wait.
const STALE: (&str, &str) = ("age", "1000");

/// Runs a test with an origin, on every backend there is.
macro_rules! with_origin {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn filesystem() {
                let origin = $crate::upstream::Upstream::start().await;
                let rig = $crate::rig::Rig::with(|config| $crate::origins::configure(config, &origin)).await;
                Box::pin(super::$name(rig, origin)).await;
            }

            #[cfg(feature = "real-backends")]
            #[tokio::test(flavor = "multi_thread")]
            async fn s3() {
                let origin = $crate::upstream::Upstream::start().await;
                let rig = $crate::rig::Rig::s3_with(|config| $crate::origins::configure(config, &origin)).await;
                Box::pin(super::$name(rig, origin)).await;
            }
        }
    )+ };
}
pub(crate) use with_origin;

with_origin!(
    what_is_fresh_is_fetched_once,
    a_page_that_stands_for_a_missing_file_is_not_kept,
    only_hashed_paths_never_change,
    conditions_and_ranges_are_answered_from_what_is_kept,
    what_is_stale_is_confirmed_by_its_etag,
    what_is_stale_is_given_while_it_is_fetched_again,
    it_is_compressed_beside_the_requests,
    many_who_want_the_same_cause_one_fetch,
    a_fetch_outlives_whoever_began_it,
);

/// An origin for `/static/` without stale-while-revalidate, which tests ask for by header.
pub(crate) fn configure(config: &mut Config, origin: &Upstream) {
    config.origins.push(OriginConfig {
        path_prefix: "/static/".into(),
        url: origin.url(),
        timeout: Duration::from_secs(10),
        stale_while_revalidate: Duration::ZERO,
        ..OriginConfig::default()
    });
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// The `Cache-Status`, and the body.
pub(crate) async fn get(rig: &Rig, path: &str) -> (StatusCode, String, String) {
    told(rig.get(path).send().await.unwrap()).await
}

pub(crate) async fn told(response: Response) -> (StatusCode, String, String) {
    let (status, account) = (response.status(), text(response.headers(), "cache-status").to_owned());
    (status, account, response.text().await.unwrap())
}

/// Waits until what was fetched is in the store.
pub(crate) async fn kept(rig: &Rig, path: &str) {
    eventually(SOON, || async { get(rig, path).await.1.starts_with("weft; hit; ttl=") }).await;
}

async fn what_is_fresh_is_fetched_once(rig: Rig, origin: Upstream) {
    let page = Page::css("a { b: c }").header("cache-control", "max-age=600").header("x-from", "origin");
    origin.give("/static/site.css", page.header("age", "30").header("keep-alive", "timeout=5"));
    let first = rig.get("/static/site.css").send().await.unwrap();
    assert_eq!(text(first.headers(), "cache-status"), "weft; fwd=miss; fwd-status=200; stored");
    for _ in 0..3 {
        let response = rig.get("/static/site.css").send().await.unwrap();
        let headers = response.headers().clone();
        assert!(text(&headers, "cache-status").starts_with("weft; hit; ttl=5"), "{headers:?}");
        assert!((30..90).contains(&text(&headers, "age").parse::<u64>().unwrap()), "{headers:?}");
        for (name, value) in [
            ("cache-control", "max-age=600"),
            ("content-type", "text/css"),
            ("content-length", "10"),
            ("vary", "Accept-Encoding"),
            ("x-from", "origin"),
            ("keep-alive", ""),
            ("via", "1.1 weft-assets"),
        ] {
            assert_eq!(text(&headers, name), value, "{name}");
        }
        assert_eq!(response.text().await.unwrap(), "a { b: c }");
    }
    let head = rig.http.head(format!("{}/static/site.css", rig.base)).send().await.unwrap();
    assert_eq!(text(head.headers(), "content-length"), "10");
    let asked = origin.asked("/static/site.css");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].method.as_str(), asked[0].header("accept-encoding")), ("GET", Some("identity")));
}

async fn a_page_that_stands_for_a_missing_file_is_not_kept(rig: Rig, origin: Upstream) {
    let path = "/static/index-BQ3wTqXc.css";
    let page = Page::new("text/html", "<!doctype html>").header("cache-control", "public, max-age=600");
    origin.give(path, page);
    for asked in 1..=2 {
        let (status, account, body) = get(&rig, path).await;
        assert_eq!((status.as_u16(), body.as_str()), (200, "<!doctype html>"));
        assert!(account.contains("detail=content-type"), "{account}");
        assert_eq!(origin.asked(path).len(), asked);
    }
    let response = rig.get(path).send().await.unwrap();
    assert_eq!(text(response.headers(), "cache-control"), "public, max-age=600", "the origin's own words");
    // Once the file is there, it is kept.
    origin.give(path, Page::css("a { b: c }"));
    assert_eq!(get(&rig, path).await.2, "a { b: c }");
    kept(&rig, path).await;
    // And what has gone since is kept no more.
    origin.give(
        "/static/old.css",
        Page::css("old").header("cache-control", "max-age=9").header(STALE.0, STALE.1),
    );
    assert_eq!(get(&rig, "/static/old.css").await.2, "old");
    origin.give("/static/old.css", Page::new("text/html", "<!doctype html>"));
    assert_eq!(get(&rig, "/static/old.css").await.2, "<!doctype html>");
    origin.give("/static/old.css", Page::css("x").status(503));
    assert_eq!(get(&rig, "/static/old.css").await.0, 503, "nothing is left to be given in its stead");
}

async fn only_hashed_paths_never_change(rig: Rig, origin: Upstream) {
    const YEAR: &str = "public, max-age=31536000, immutable";
    for (path, said, expected) in [
        ("/static/index-BQ3wTqXc.css", "max-age=60", YEAR),
        ("/static/main.3f2a91bc.css", "", YEAR),
        ("/static/main.3f2a91bd.css", "no-cache", "no-cache"),
        ("/static/main.3f2a91be.css", "max-age=60, must-revalidate", "max-age=60, must-revalidate"),
        ("/static/main.3f2a91bc.css?v=2", "max-age=60", "max-age=60"),
        ("/static/some-longword.css", "max-age=60", "max-age=60"),
        ("/static/site.css", "", ""),
    ] {
        let page = Page::css("a { b: c }").header("pragma", "no-cache");
        let page = if said.is_empty() { page } else { page.header("cache-control", said) };
        origin.give(path, page);
        for _ in 0..2 {
            let response = rig.get(path).send().await.unwrap();
            assert_eq!(text(response.headers(), "cache-control"), expected, "{path}");
            assert_eq!(response.headers().contains_key("pragma"), expected != YEAR, "{path}");
        }
    }
}

async fn conditions_and_ranges_are_answered_from_what_is_kept(rig: Rig, origin: Upstream) {
    let path = "/static/data.bin";
    let data: Vec<u8> = (0..700_000_u32).map(|i| (i % 251) as u8).collect();
    let page = Page::new("application/octet-stream", data.clone()).header("cache-control", "max-age=600");
    origin.give(path, page.etag("\"v1\"").header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"));
    let first = rig.get(path).header("range", "bytes=5-9").send().await.unwrap();
    assert_eq!(first.status(), 206, "the whole is fetched, and the part given");
    assert_eq!(first.bytes().await.unwrap(), data[5..10]);
    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-none-match", "\"v2\"", 200),
        ("if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT", 304),
        ("if-modified-since", "Sun, 31 Dec 2023 00:00:00 GMT", 200),
        ("if-match", "\"v2\"", 412),
        ("range", "bytes=699999-", 206),
        ("range", "bytes=700000-", 416),
    ] {
        let response = rig.get(path).header(name, value).send().await.unwrap();
        assert_eq!(response.status(), status, "{name}: {value}");
        assert!(text(response.headers(), "cache-status").starts_with("weft; hit"), "{name}: {value}");
        if status == 304 {
            assert_eq!(text(response.headers(), "etag"), "\"v1\"");
            assert_eq!(text(response.headers(), "cache-control"), "max-age=600");
        }
    }
    let part = rig.get(path).header("range", "bytes=-3").header("if-range", "\"v1\"").send().await.unwrap();
    assert_eq!(text(part.headers(), "content-range"), "bytes 699997-699999/700000");
    assert_eq!(part.bytes().await.unwrap(), data[699_997..]);
    let asked = origin.asked(path);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("range").or(asked[0].header("if-none-match")), None);
}

async fn what_is_stale_is_confirmed_by_its_etag(rig: Rig, origin: Upstream) {
    let path = "/static/site.css";
    let page = Page::css("one").etag("W/\"1\"").header("cache-control", "max-age=0");
    origin.give(path, page.clone());
    assert_eq!(get(&rig, path).await.2, "one");
    origin.give(path, page.header("x-news", "1"));
    let response = rig.get(path).send().await.unwrap();
    assert_eq!(text(response.headers(), "cache-status"), "weft; fwd=stale; fwd-status=304");
    assert_eq!(text(response.headers(), "x-news"), "1", "a 304 refreshes the headers");
    assert_eq!(response.text().await.unwrap(), "one");
    assert_eq!(origin.asked(path)[1].header("if-none-match"), Some("W/\"1\""));
    // Another one takes its place.
    origin.give(path, Page::css("two").etag("\"2\"").header("cache-control", "max-age=60"));
    let (_, account, body) = get(&rig, path).await;
    assert_eq!((account.as_str(), body.as_str()), ("weft; fwd=stale; fwd-status=200; stored", "two"));
    assert!(get(&rig, path).await.1.starts_with("weft; hit"));
    // `no-cache` is kept, and asked about each time.
    origin.give("/static/ask.css", Page::css("ask").etag("\"1\"").header("cache-control", "no-cache"));
    for expected in ["weft; fwd=miss; fwd-status=200; stored", "weft; fwd=stale; fwd-status=304"] {
        assert_eq!(get(&rig, "/static/ask.css").await.1, expected);
    }
    // There is nothing to ask about it with: keeping it would be of use to nobody.
    origin.give("/static/none.css", Page::css("none").header("cache-control", "no-cache"));
    for _ in 0..2 {
        assert_eq!(get(&rig, "/static/none.css").await.1, "weft; fwd=miss; fwd-status=200");
    }
    // A 304 about something else confirms nothing.
    let page =
        |body: &str, etag: &str| Page::css(body).header("etag", etag).header("cache-control", "max-age=0");
    origin.give("/static/odd.css", page("one", "\"1\""));
    assert_eq!(get(&rig, "/static/odd.css").await.2, "one");
    origin.script("/static/odd.css", move |asked| match asked.header("if-none-match") {
        Some("\"1\"") => Page::css("").status(304).header("etag", "\"2\""),
        _ => page("two", "\"2\""),
    });
    assert_eq!(get(&rig, "/static/odd.css").await.2, "two");
}

async fn what_is_stale_is_given_while_it_is_fetched_again(rig: Rig, origin: Upstream) {
    let path = "/static/site.css";
    let policy = ("cache-control", "max-age=600, stale-while-revalidate=86400");
    origin.give(path, Page::css("one").header(policy.0, policy.1).header(STALE.0, STALE.1));
    assert_eq!(get(&rig, path).await.2, "one");
    origin.close_gate();
    origin.give(path, Page::css("two").header(policy.0, policy.1));
    // The origin does not answer now: that these requests do is the cache's doing.
    for _ in 0..3 {
        let (_, account, body) = get(&rig, path).await;
        assert!(
            account.starts_with("weft; hit; ttl=-4") && account.ends_with("detail=stale-while-revalidate")
        );
        assert_eq!(body, "one");
    }
    eventually(SOON, || async { origin.asked(path).len() == 2 }).await;
    origin.open_gate();
    eventually(SOON, || async { get(&rig, path).await.2 == "two" }).await;
    assert_eq!(origin.asked(path).len(), 2, "one fetch for all");
}

async fn it_is_compressed_beside_the_requests(rig: Rig, origin: Upstream) {
    let path = "/static/todo.js";
    let script = sample("todo.js");
    origin.give(path, Page::new("text/javascript", script.clone()).header("cache-control", "max-age=600"));
    let with = |accept: &str| rig.get(path).header("accept-encoding", accept).send();
    let first = with("br, gzip").await.unwrap();
    assert_eq!(
        (text(first.headers(), "content-encoding"), text(first.headers(), "vary")),
        ("", "Accept-Encoding")
    );
    assert_eq!(first.bytes().await.unwrap(), script);
    eventually(SOON, || async {
        text(with("br, gzip").await.unwrap().headers(), "content-encoding") == "br"
    })
    .await;
    let mut etags = std::collections::BTreeSet::new();
    for encoding in ["br", "zstd", "gzip", ""] {
        let response = with(encoding).await.unwrap();
        let headers = response.headers().clone();
        assert_eq!(text(&headers, "content-encoding"), encoding);
        assert_eq!(text(&headers, "vary"), "Accept-Encoding");
        etags.insert(text(&headers, "etag").to_owned());
        let bytes = response.bytes().await.unwrap();
        assert!(encoding.is_empty() || bytes.len() < script.len() / 2);
        assert_eq!(crate::delivery::decoded(encoding, &bytes), script, "{encoding}");
        let part = with(encoding).await.unwrap();
        assert_eq!(text(part.headers(), "content-length"), bytes.len().to_string());
    }
    assert_eq!(etags.len(), 4, "one etag for each encoding");
    assert_eq!(origin.asked(path).len(), 1);
    // What forbids it stays as it is.
    let page = Page::css(&"a { b: c } ".repeat(500)).header("cache-control", "max-age=600, no-transform");
    origin.give("/static/raw.css", page);
    kept(&rig, "/static/raw.css").await;
    let raw = rig.get("/static/raw.css").header("accept-encoding", "br").send().await.unwrap();
    assert_eq!((text(raw.headers(), "content-encoding"), text(raw.headers(), "vary")), ("", ""));
}

async fn many_who_want_the_same_cause_one_fetch(rig: Rig, origin: Upstream) {
    let path = "/static/site.css";
    origin.give(path, Page::css("a { b: c }").header("cache-control", "max-age=600"));
    origin.close_gate();
    let gets = futures::future::join_all((0..20).map(|_| get(&rig, path)));
    let opened = async {
        // All of them are under way before the origin answers any.
        eventually(SOON, || async { !origin.asked(path).is_empty() }).await;
        eventually(SOON, || async { rig.in_flight().await >= 20.0 }).await;
        origin.open_gate();
    };
    let (answers, ()) = tokio::join!(gets, opened);
    assert_eq!(origin.asked(path).len(), 1);
    assert!(answers.iter().any(|(_, account, _)| account.contains("collapsed")), "{answers:?}");
    assert!(answers.iter().all(|(status, _, body)| status == &200 && body == "a { b: c }"));
}

async fn a_fetch_outlives_whoever_began_it(rig: Rig, origin: Upstream) {
    let path = "/static/site.css";
    origin.give(path, Page::css("a { b: c }").header("cache-control", "max-age=600"));
    origin.close_gate();
    let mut first = Box::pin(get(&rig, path));
    let asked = eventually(SOON, || async { !origin.asked(path).is_empty() });
    tokio::select! {
        _ = &mut first => panic!("the origin has not answered yet"),
        () = asked => {}
    }
    drop(first);
    eventually(SOON, || async { rig.in_flight().await < 0.5 }).await;
    origin.open_gate();
    kept(&rig, path).await;
    assert_eq!(origin.asked(path).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_counted_by_how_it_came() {
    let mut origin = Upstream::start().await;
    let rig = Rig::with(|config| configure(config, &origin)).await;
    let path = "/static/site.css";
    origin.give(
        path,
        Page::css("old").etag("\"1\"").header("cache-control", "max-age=9").header(STALE.0, STALE.1),
    );
    // miss, revalidated, pass, error
    get(&rig, path).await;
    get(&rig, path).await;
    rig.get(path).header("authorization", "x").send().await.unwrap();
    get(&rig, "/static/%zz").await;
    origin.give("/static/fresh.css", Page::css("12345"));
    get(&rig, "/static/fresh.css").await;
    get(&rig, "/static/fresh.css").await;
    origin.stop().await;
    get(&rig, path).await;
    for (result, expected) in
        [("miss", 2.0), ("revalidated", 1.0), ("pass", 1.0), ("error", 1.0), ("hit", 1.0), ("stale", 1.0)]
    {
        let label = format!("result=\"{result}\"");
        let counted = rig.metric("weft_assets_origin_requests_total", &label).await;
        assert!((counted - expected).abs() < 0.5, "{result}: {counted}");
    }
    eventually(SOON, || async { rig.metric("weft_assets_origin_kept_bytes_total", "").await >= 8.0 }).await;
    let stored = rig.metric("weft_assets_origin_stored_bytes", "").await;
    assert!((8200.0..8300.0).contains(&stored), "two of 4 KiB and their bytes: {stored}");
    let fetches = |outcome| rig.metric("weft_assets_origin_fetch_duration_seconds_count", outcome);
    assert!(fetches("outcome=\"ok\"").await >= 3.0 && fetches("outcome=\"unreachable\"").await >= 1.0);
}
