//! Where it is kept: bounded, there after a restart, and never in the way of an answer.

#[cfg(feature = "real-backends")]
use weft_assets::storage::Storage as _;
use weft_testkit::eventually;

use super::{SOON, STALE, configure, get, kept, text, told, with_origin};
use crate::{
    rig::{Rig, sample},
    upstream::{Page, Upstream},
};

with_origin!(
    it_is_there_after_a_restart,
    what_is_too_large_goes_through,
    what_was_not_asked_for_the_longest_makes_room,
);

fn fresh(body: &str) -> Page {
    Page::css(body).header("cache-control", "max-age=600")
}

async fn it_is_there_after_a_restart(rig: Rig, mut origin: Upstream) {
    origin.give("/static/a.css", fresh("a").etag("\"a\"").header("x-a", "1").header("x-a", "2"));
    let script = sample("todo.js");
    let page = Page::new("text/javascript", script.clone()).header("cache-control", "max-age=600");
    origin.give("/static/todo.js", page.header("age", "100"));
    origin.give("/static/old.css", fresh("old").header(STALE.0, STALE.1));
    for path in ["/static/a.css", "/static/todo.js", "/static/old.css"] {
        get(&rig, path).await;
    }
    let br = |rig: &Rig| rig.get("/static/todo.js").header("accept-encoding", "br").send();
    eventually(SOON, || async { text(br(&rig).await.unwrap().headers(), "content-encoding") == "br" }).await;
    let before = br(&rig).await.unwrap();
    let etag = text(before.headers(), "etag").to_owned();
    let before = before.bytes().await.unwrap();

    let rig = rig.restart().await;
    origin.stop().await;
    let a = rig.get("/static/a.css").send().await.unwrap();
    assert!(text(a.headers(), "cache-status").starts_with("weft; hit"));
    assert_eq!((text(a.headers(), "etag"), a.headers().get_all("x-a").iter().count()), ("\"a\"", 2));
    assert_eq!(a.text().await.unwrap(), "a");
    let after = br(&rig).await.unwrap();
    assert_eq!(text(after.headers(), "etag"), etag);
    assert!(text(after.headers(), "age").parse::<u64>().unwrap() >= 100);
    assert_eq!(after.bytes().await.unwrap(), before);
    let (status, account, body) = get(&rig, "/static/old.css").await;
    assert_eq!((status.as_u16(), body.as_str()), (200, "old"), "{account}");
}

async fn what_is_too_large_goes_through(rig: Rig, origin: Upstream) {
    let _ = rig;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.origins[0].max_bytes = 1000;
    })
    .await;
    let body = "a { b: c } ".repeat(50_000);
    for (path, page) in [("/static/said.css", fresh(&body)), ("/static/unsaid.css", fresh(&body).chunked())] {
        origin.give(path, page);
        for _ in 0..2 {
            let (status, account, got) = get(&rig, path).await;
            assert_eq!((status.as_u16(), got == body), (200, true), "{path}");
            assert_eq!(account, "weft; fwd=miss; fwd-status=200; detail=too-large", "{path}");
        }
    }
    origin.script("/static/said.css", |asked| fresh(asked.header("range").unwrap_or(&"x".repeat(2000))));
    let part = rig.get("/static/said.css").header("range", "bytes=0-9").send().await.unwrap();
    assert_eq!(told(part).await.2, "bytes=0-9", "the client's own request goes on");
}

async fn what_was_not_asked_for_the_longest_makes_room(rig: Rig, origin: Upstream) {
    let _ = rig;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.origins[0].max_bytes = 50_000;
        config.origin_cache.max_total_bytes = 200_000;
    })
    .await;
    let path = |n: usize| format!("/static/{n}.bin");
    let page = |n: usize| Page::new("application/octet-stream", vec![n as u8; 40_000]);
    for n in 0..12 {
        origin.give(&path(n), page(n).header("cache-control", "max-age=600"));
        assert_eq!(get(&rig, &path(n)).await.0, 200);
        kept(&rig, &path(n)).await;
        // The first is asked for all the time.
        assert!(get(&rig, &path(0)).await.1.starts_with("weft; hit"), "{n}");
    }
    let stored = || rig.files().iter().filter(|file| file.contains("origins/bytes")).count();
    eventually(SOON, || async { stored() <= 5 }).await;
    assert_eq!(origin.asked(&path(0)).len(), 1);
    assert!(get(&rig, &path(1)).await.1.starts_with("weft; fwd=miss"), "it made room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_costs_no_answer() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| configure(config, &origin)).await;
    // A file where the folder would be: every write fails.
    std::fs::write(rig.directory.path().join("objects/origins"), b"").unwrap();
    origin.give("/static/a.css", fresh("a"));
    let large = "a { b: c } ".repeat(60_000);
    origin.give("/static/large.css", fresh(&large));
    for _ in 0..3 {
        assert_eq!(get(&rig, "/static/a.css").await.2, "a");
        assert_eq!(get(&rig, "/static/large.css").await.2, large);
    }
    eventually(SOON, || async { rig.stats().await.store_errors > 0 }).await;
    assert!(rig.ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_gone_are_fetched_again() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.http.memory_entry_bytes = 0;
    })
    .await;
    origin.give("/static/a.css", fresh("a"));
    get(&rig, "/static/a.css").await;
    rig.settled("origins/records", 1).await;
    let objects = rig.directory.path().join("objects");
    std::fs::rename(objects.join("origins"), rig.directory.path().join("elsewhere")).unwrap();
    assert_eq!(get(&rig, "/static/a.css").await.2, "a");
    kept(&rig, "/static/a.css").await;
    assert_eq!(origin.asked("/static/a.css").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_swept_and_what_is_kept_is_not() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| configure(config, &origin)).await;
    origin.give("/static/a.css", fresh("a"));
    get(&rig, "/static/a.css").await;
    rig.settled("origins/records", 1).await;
    let bytes = rig.directory.path().join("objects/origins/bytes/0");
    std::fs::create_dir_all(&bytes).unwrap();
    // From 2022, as a killed process may have left it, and one that is being written.
    let (old, new) = ("01800000000070008000000000000000", uuid::Uuid::now_v7().simple().to_string());
    for blob in [old, &new] {
        std::fs::write(bytes.join(format!("{}.{blob}.identity", "0".repeat(32))), b"x").unwrap();
    }
    let rig = rig.restart().await;
    eventually(SOON, || async { !rig.files().iter().any(|file| file.contains(old)) }).await;
    assert!(rig.files().iter().any(|file| file.contains(&new)));
    assert!(get(&rig, "/static/a.css").await.1.starts_with("weft; hit"));
    assert_eq!(origin.all().len(), 1);
}

#[cfg(feature = "real-backends")]
#[tokio::test(flavor = "multi_thread")]
async fn replicas_on_one_bucket_share_what_is_kept() {
    let origin = Upstream::start().await;
    let first = Rig::s3_with(|config| configure(config, &origin)).await;
    let directory = tempfile::tempdir().unwrap();
    let mut config = crate::rig::config(directory.path().to_owned());
    crate::rig::s3_config(&mut config, first.s3.as_ref().unwrap()).await;
    config.storage.s3.bucket.clone_from(&first.bucket);
    configure(&mut config, &origin);
    let second = Rig::on(config, directory).await;

    origin.give("/static/a.css", fresh("one"));
    assert_eq!(get(&first, "/static/a.css").await.2, "one");
    let bucket = first.bucket();
    let records = weft_assets::storage::Key::root("origins").text("records");
    eventually(SOON, || async { !bucket.folders(&records).await.unwrap().is_empty() }).await;
    assert!(get(&second, "/static/a.css").await.1.starts_with("weft; hit"));
    assert_eq!(origin.asked("/static/a.css").len(), 1);
    // What one of them forgets and removes, the other fetches again.
    let url = format!("{}/static/a.css", second.base);
    origin.script("/static/a.css", |asked| if asked.method == "GET" { fresh("two") } else { fresh("") });
    assert_eq!(second.http.post(url).send().await.unwrap().status(), 200);
    assert_eq!(get(&second, "/static/a.css").await.2, "two");
}

#[cfg(feature = "real-backends")]
#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_the_origin_answers() {
    let origin = Upstream::start().await;
    let rig = Rig::s3_with(|config| {
        configure(config, &origin);
        config.storage.timeout = std::time::Duration::from_millis(500);
        config.http.memory_bytes = 0;
        config.http.memory_entry_bytes = 0;
    })
    .await;
    origin.give("/static/kept.css", fresh("kept"));
    origin.give("/static/new.css", fresh("new"));
    get(&rig, "/static/kept.css").await;
    eventually(SOON, || async { rig.metric("weft_assets_origin_kept_bytes_total", "").await >= 4.0 }).await;
    for paused in [true, false] {
        let s3 = rig.s3.as_ref().unwrap();
        if paused {
            s3.pause().await.unwrap();
        } else {
            s3.resume().await.unwrap();
            s3.stop().await.unwrap();
        }
        for (path, body) in [("/static/kept.css", "kept"), ("/static/new.css", "new")] {
            let (status, account, got) = get(&rig, path).await;
            assert_eq!((status.as_u16(), got.as_str()), (200, body), "{account}");
        }
    }
    rig.s3.as_ref().unwrap().restart().await.unwrap();
    eventually(SOON, || async { rig.ready() }).await;
    kept(&rig, "/static/new.css").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_record_names_is_not_swept() {
    let origin = Upstream::start().await;
    let rig = Rig::with(|config| {
        configure(config, &origin);
        config.storage.orphan_age = std::time::Duration::from_millis(100);
        config.origin_cache.sweep_interval = std::time::Duration::from_millis(50);
        config.http.memory_entry_bytes = 0;
    })
    .await;
    origin.give("/static/a.css", fresh("a"));
    get(&rig, "/static/a.css").await;
    rig.settled("origins/records", 1).await;
    // Younger than what is kept: once it is swept, that was looked at too.
    let blob = uuid::Uuid::now_v7().simple().to_string();
    let bytes = rig.directory.path().join("objects/origins/bytes/0");
    std::fs::create_dir_all(&bytes).unwrap();
    std::fs::write(bytes.join(format!("{}.{blob}.identity", "0".repeat(32))), b"x").unwrap();
    eventually(SOON, || async { !rig.files().iter().any(|file| file.contains(&blob)) }).await;
    assert_eq!(get(&rig, "/static/a.css").await.2, "a");
    assert_eq!(origin.all().len(), 1);
}
