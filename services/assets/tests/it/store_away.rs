//! S3 stopped at run time and started again.

use std::time::{Duration, Instant};

use tonic::Code;
use weft_mesh::error::CallError;
use weft_testkit::{S3, eventually};

use crate::rig::{self, Rig, public, sample};

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_promptly_while_the_store_is_away_and_work_after_its_return() {
    let rig = Rig::s3_with(|config| {
        config.storage.timeout = Duration::from_secs(1);
        config.storage.probe_interval = Duration::from_millis(100);
        config.http.lookup_ttl = Duration::ZERO;
    })
    .await;
    let s3 = rig.s3.as_ref().unwrap();
    let css = sample("site.css");
    let asset = rig.public("site.css", &css).await;
    let url = rig.urls(&asset.id).await.unwrap().url;
    let before = rig.get(&url).send().await.unwrap().bytes().await.unwrap();

    for paused in [false, true] {
        if paused {
            s3.pause().await.unwrap();
        } else {
            s3.stop().await.unwrap();
        }
        let began = Instant::now();
        let upload = rig.put(public("b.css"), &sample("components.css")).await.unwrap_err();
        assert_eq!(upload.code(), Code::Unavailable, "{upload:?}");
        let error = CallError::from(upload);
        assert_eq!(error.reason, "STORE_UNAVAILABLE");
        assert!(error.retry_after.is_some());
        assert_eq!(rig.stat(&asset.id).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(rig.list(0, "").await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(rig.delete(&asset.id).await.unwrap_err().code(), Code::Unavailable);
        let page = rig.get(&url).send().await.unwrap();
        assert_eq!(page.status(), 503);
        assert!(page.headers().contains_key("retry-after"));
        assert_eq!(page.headers()["cache-control"], "no-store");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        eventually(Duration::from_secs(5), || async { !rig.ready() }).await;
        assert!(rig.stats().await.store_errors > 0);

        if paused {
            s3.resume().await.unwrap();
        } else {
            s3.restart().await.unwrap();
        }
        eventually(Duration::from_secs(10), || async { rig.ready() }).await;
        assert_eq!(rig.get(&url).send().await.unwrap().bytes().await.unwrap(), before, "nothing was lost");
        assert_eq!(rig.download(&asset.id).await.unwrap().1, css);
        rig.public("b.css", &sample("components.css")).await;
        rig.delete(&blake3::hash(&sample("components.css")).to_hex()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_while_the_store_is_away_and_becomes_ready_by_itself() {
    let s3 = S3::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = rig::config(directory.path().to_owned());
    rig::s3_config(&mut config, &s3).await;
    config.storage.timeout = Duration::from_secs(1);
    config.storage.probe_interval = Duration::from_millis(100);
    s3.stop().await.unwrap();
    let running = rig::start(config).await.unwrap();
    assert!(running.ready().is_err());
    s3.restart().await.unwrap();
    eventually(Duration::from_secs(10), || async { running.ready().is_ok() }).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_bucket_are_one_service() {
    let first = Rig::s3_with(|config| config.http.lookup_ttl = Duration::from_millis(200)).await;
    let directory = tempfile::tempdir().unwrap();
    let mut config = rig::config(directory.path().to_owned());
    let s3 = first.s3.as_ref().unwrap();
    rig::s3_config(&mut config, s3).await;
    config.storage.s3.bucket.clone_from(&first.bucket);
    config.http.lookup_ttl = Duration::from_millis(200);
    let second = Rig::on(config, directory).await;

    let data = sample("todo.js");
    first.public("0.js", &data).await;
    let puts = futures::future::join_all((1..6).map(|i| {
        let rig = if i % 2 == 0 { &first } else { &second };
        let data = &data;
        async move { rig.put(public(&format!("{i}.js")), data).await.unwrap() }
    }));
    let puts = puts.await;
    assert_eq!(puts.iter().filter(|put| !put.existed).count(), 0, "one upload was the first");
    let names: std::collections::BTreeSet<_> = puts.into_iter().map(|put| put.asset.unwrap().name).collect();
    assert_eq!(names.len(), 1);
    let id = blake3::hash(&data).to_hex().to_string();
    let url = second.urls(&id).await.unwrap().url;
    assert_eq!(first.get(&url).send().await.unwrap().status(), 200);
    second.delete(&id).await.unwrap();
    assert_eq!(second.get(&url).send().await.unwrap().status(), 404);
    eventually(Duration::from_secs(5), || async { first.get(&url).send().await.unwrap().status() == 404 })
        .await;
}
