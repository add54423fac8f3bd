//! An origin that is down, slow, or breaks off in the middle.

use std::time::Duration;

use weft_testkit::eventually;

use super::{SOON, STALE, configure, get, kept, text, with_origin};
use crate::{
    rig::Rig,
    upstream::{Page, Upstream},
};

with_origin!(
    what_is_stale_is_given_while_the_origin_is_down,
    what_must_be_revalidated_is_not_given_stale,
    what_breaks_off_is_not_kept,
    a_failed_fetch_is_answered_to_all_who_wait,
    an_origin_that_is_down_is_an_error_where_nothing_is_kept,
    errors_and_missing_files_are_not_kept,
    what_is_passed_on_breaks_off_as_well,
);

async fn what_is_stale_is_given_while_the_origin_is_down(rig: Rig, mut origin: Upstream) {
    let path = "/static/site.css";
    let page = Page::css("old").header("cache-control", "max-age=600").header(STALE.0, STALE.1);
    origin.give(path, page.clone());
    assert_eq!(get(&rig, path).await.2, "old");
    // It answers, but only that it cannot.
    for status in [429, 500, 502, 503, 504] {
        origin.give(path, Page::css("broken").status(status));
        let (given, account, body) = get(&rig, path).await;
        assert_eq!((given.as_u16(), body.as_str()), (200, "old"), "{status}");
        assert!(account.contains("detail=stale-if-error"), "{account}");
    }
    // It breaks off.
    origin.give(path, Page::css("bro").says(100));
    assert_eq!(get(&rig, path).await.2, "old");
    // It is gone.
    origin.stop().await;
    for _ in 0..3 {
        let response = rig.get(path).send().await.unwrap();
        assert!(text(response.headers(), "age").parse::<u64>().unwrap() >= 1000);
        assert!(text(response.headers(), "cache-status").contains("stale-if-error"));
        assert_eq!(response.text().await.unwrap(), "old");
    }
    // Its return is noticed without a request that waits for it.
    origin.give(path, Page::css("new").header("cache-control", "max-age=600"));
    origin.restart().await;
    eventually(SOON, || async { get(&rig, path).await.2 == "new" }).await;
}

async fn what_must_be_revalidated_is_not_given_stale(rig: Rig, mut origin: Upstream) {
    let policies = [
        "max-age=600, must-revalidate",
        "max-age=600, proxy-revalidate",
        "s-maxage=600",
        "no-cache",
        "max-age=600, stale-if-error=1",
    ];
    for (n, policy) in policies.into_iter().enumerate() {
        let page = Page::css("old").header("cache-control", policy).header(STALE.0, STALE.1);
        origin.give(&format!("/static/{n}.css"), page);
        assert_eq!(get(&rig, &format!("/static/{n}.css")).await.2, "old");
    }
    origin.stop().await;
    for (n, policy) in policies.into_iter().enumerate() {
        let (status, account, body) = get(&rig, &format!("/static/{n}.css")).await;
        assert_eq!(status, 502, "{policy}: {account}");
        assert!(body.contains("ORIGIN_UNREACHABLE"), "{policy}: {body}");
    }
}

async fn what_breaks_off_is_not_kept(rig: Rig, origin: Upstream) {
    let body = "a { b: c } ".repeat(60_000);
    for (n, page) in [
        Page::css(&body).says(body.len() + 1),
        Page::css("a").says(2),
        Page::css(&body).chunked().breaks_off(),
        Page::css("").says(1),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/static/{n}.css");
        origin.give(&path, page.header("cache-control", "max-age=600"));
        let (status, _, text) = get(&rig, &path).await;
        assert_eq!(status, 502, "{n}: {text}");
        assert!(text.contains("ORIGIN_BROKE_OFF"), "{n}: {text}");
        origin.give(&path, Page::css(&body).chunked().header("cache-control", "max-age=600"));
        eventually(SOON, || async { get(&rig, &path).await.2 == body }).await;
        kept(&rig, &path).await;
    }
}

async fn a_failed_fetch_is_answered_to_all_who_wait(rig: Rig, origin: Upstream) {
    for (path, page, expected) in [
        ("/static/cut.css", Page::css("a").says(9), "ORIGIN_BROKE_OFF"),
        ("/static/none.css", Page::css("not here").status(404), "not here"),
        ("/static/ill.css", Page::css("ill").status(503).header("cache-control", "no-store"), "ill"),
    ] {
        origin.give(path, page);
        origin.close_gate();
        let gets = futures::future::join_all((0..10).map(|_| get(&rig, path)));
        let opened = async {
            eventually(SOON, || async { !origin.asked(path).is_empty() }).await;
            eventually(SOON, || async { rig.in_flight().await >= 10.0 }).await;
            origin.open_gate();
        };
        let (answers, ()) = tokio::join!(gets, opened);
        assert_eq!(origin.asked(path).len(), 1, "{path}");
        for (status, account, body) in answers {
            assert!(status.as_u16() >= 400 && body.contains(expected), "{path}: {status} {account} {body}");
        }
    }
}

async fn an_origin_that_is_down_is_an_error_where_nothing_is_kept(rig: Rig, mut origin: Upstream) {
    origin.stop().await;
    let response = rig.get("/static/site.css").send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(text(response.headers(), "cache-control"), "no-store");
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(text(response.headers(), "cache-status"), "weft; fwd=miss; detail=unreachable");
    assert_eq!(rig.http.post(format!("{}/static/x", rig.base)).send().await.unwrap().status(), 502);
    origin.give("/static/site.css", Page::css("a { b: c }"));
    origin.restart().await;
    eventually(SOON, || async { get(&rig, "/static/site.css").await.2 == "a { b: c }" }).await;
}

async fn errors_and_missing_files_are_not_kept(rig: Rig, origin: Upstream) {
    for status in [404, 410, 301, 206, 500, 503] {
        let path = format!("/static/{status}.css");
        let page = Page::css("x").status(status).header("cache-control", "public, max-age=600");
        origin.give(&path, page);
        for asked in 1..=2 {
            assert_eq!(get(&rig, &path).await.0, status);
            assert_eq!(origin.asked(&path).len(), asked, "{status}");
        }
    }
}

async fn what_is_passed_on_breaks_off_as_well(rig: Rig, origin: Upstream) {
    for (n, page) in
        [Page::css("half").says(8), Page::css("half").chunked().breaks_off()].into_iter().enumerate()
    {
        let path = format!("/static/{n}.css");
        origin.give(&path, page);
        // Broken off so early, the head may not have gone out either.
        let whole = async {
            rig.get(&path).header("authorization", "x").send().await?.error_for_status()?.bytes().await
        };
        assert!(whole.await.is_err(), "{n}: a half must not look like a whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_never_answers_is_given_up() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.origins[0].timeout = Duration::from_millis(300);
    })
    .await;
    let policy = ("cache-control", "max-age=600");
    origin.give("/static/old.css", Page::css("old").header(policy.0, policy.1).header(STALE.0, STALE.1));
    assert_eq!(get(&rig, "/static/old.css").await.2, "old");
    for path in ["/static/old.css", "/static/new.css"] {
        origin.give(path, Page::css("late").hangs());
    }
    // That they end at all is the deadline's doing.
    let ended = tokio::time::timeout(SOON, async {
        assert_eq!(get(&rig, "/static/old.css").await.2, "old");
        let (status, account, body) = get(&rig, "/static/new.css").await;
        assert_eq!(status, 504, "{account}");
        assert!(body.contains("ORIGIN_TIMEOUT"), "{body}");
        let passed = rig.get("/static/new.css").header("authorization", "Bearer x").send().await.unwrap();
        assert_eq!(passed.status(), 504);
    });
    ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_slowly_but_comes_goes_through() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.origins[0].timeout = Duration::from_millis(500);
    })
    .await;
    // Twice as long in all as a fetch may take, and never silent.
    let body = "x".repeat(50);
    origin.give("/static/slow.css", Page::css(&body).drips(Duration::from_millis(20)));
    for _ in 0..2 {
        let (status, account, got) = get(&rig, "/static/slow.css").await;
        assert_eq!((status.as_u16(), got.as_str()), (200, body.as_str()), "{account}");
        assert!(account.contains("detail=too-slow"), "{account}");
    }
    assert_eq!(origin.asked("/static/slow.css").len(), 3, "the second knew it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_without_the_tls_that_is_configured_is_not_asked() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.origins[0].url = origin.url().replace("http:", "https:");
    })
    .await;
    origin.give("/static/a.css", Page::css("a"));
    let (status, _, body) = get(&rig, "/static/a.css").await;
    assert_eq!(status, 502, "{body}");
    assert!(origin.all().iter().all(|asked| !asked.path.contains("a.css")), "nothing in the clear");
}
