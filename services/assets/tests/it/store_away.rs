//! S3 stopped at run time and started again.

use std::time::Duration;

use tonic::Code;
use weft_mesh::error::CallError;
use weft_proto::assets::v1 as pb;
use weft_testkit::{S3, eventually};

use crate::rig::{self, Rig, public, sample};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(30);

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
        // A store that is paused never answers: that each call ends at all is the service's doing.
        let every_call = every_call_fails(&rig, &asset.id, &url);
        tokio::time::timeout(SOON, every_call).await.expect("an end of each call");
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

async fn every_call_fails(rig: &Rig, id: &str, url: &str) {
    let upload = rig.put(public("b.css"), &sample("components.css")).await.unwrap_err();
    assert_eq!(upload.code(), Code::Unavailable, "{upload:?}");
    let error = CallError::from(upload);
    assert_eq!(error.reason, "STORE_UNAVAILABLE");
    assert!(error.retry_after.is_some());
    assert_eq!(rig.stat(id).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(rig.download(id).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(rig.list(0, "").await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(rig.delete(id).await.unwrap_err().code(), Code::Unavailable);
    let page = rig.get(url).send().await.unwrap();
    assert_eq!(page.status(), 503);
    assert!(page.headers().contains_key("retry-after"));
    assert_eq!(page.headers()["cache-control"], "no-store");
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
    let puts = futures::future::join_all((0..6).map(|i| {
        let rig = if i % 2 == 0 { &first } else { &second };
        let data = &data;
        async move { rig.put(public(&format!("{i}.js")), data).await.unwrap() }
    }));
    let puts = puts.await;
    assert_eq!(puts.iter().filter(|put| !put.existed).count(), 1, "one upload was the first");
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

/// Uploads until the store is gone, and returns what was acknowledged: ids with their bytes.
async fn put_until_it_fails(rig: &Rig, uploader: usize) -> Vec<(String, Vec<u8>)> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        // Around the size from which uploads are spooled to a file.
        let text = format!("{uploader}-{n} ");
        let data = text.repeat((1 + n % 3) * 150_000 / text.len()).into_bytes();
        let header = pb::AssetHeader { name: format!("{uploader}-{n}.txt"), ..Default::default() };
        match rig.put(header, &data).await {
            Ok(put) => acknowledged.push((put.asset.unwrap().id, data)),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert_eq!(CallError::from(status).reason, "STORE_UNAVAILABLE");
                break;
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_killed_under_uploads_loses_none_that_was_acknowledged() {
    let rig = Rig::s3_with(|config| config.storage.probe_interval = Duration::from_millis(100)).await;
    let s3 = rig.s3.as_ref().unwrap();
    let uploads = futures::future::join_all((0..4).map(|uploader| put_until_it_fails(&rig, uploader)));
    let killed = async {
        eventually(SOON, || async { rig.stats().await.puts > 20 }).await;
        s3.stop().await.unwrap();
    };
    let (acknowledged, ()) =
        tokio::time::timeout(2 * SOON, async { tokio::join!(uploads, killed) }).await.unwrap();
    let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    assert_eq!(rig.download(&acknowledged[0].0).await.unwrap_err().code(), Code::Unavailable);

    s3.restart().await.unwrap();
    eventually(SOON, || async { rig.ready() }).await;
    for (id, data) in &acknowledged {
        assert!(&rig.download(id).await.unwrap().1 == data, "{id} came back changed");
    }
}
