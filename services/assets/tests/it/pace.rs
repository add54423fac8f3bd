//! Downloads from S3 at the pace of their reader: only a silent store ends them.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use weft_assets::storage::{Body, Key, Object, S3, S3Settings, Storage as _};
use weft_testkit::FaultProxy;

/// Of a call; what follows is to take longer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Far more than the time limit, far less than for ever.
const SOON: Duration = Duration::from_secs(30);
/// Far more than all buffers between the store and us hold.
const SIZE: u32 = 20_000_000;

struct Scene {
    _server: weft_testkit::S3,
    proxy: FaultProxy,
    store: S3,
    data: Bytes,
}

impl Scene {
    /// A store behind a proxy, with one object in it.
    async fn new() -> Self {
        let server = weft_testkit::S3::start().await.unwrap();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let settings = S3Settings {
            bucket: server.bucket().await.unwrap(),
            endpoint: proxy.url(server.url()),
            region: weft_testkit::S3::REGION.into(),
            access_key_id: weft_testkit::S3::ACCESS_KEY_ID.into(),
            secret_access_key: weft_testkit::S3::SECRET_ACCESS_KEY.into(),
            prefix: String::new(),
            timeout: SOON,
        };
        let data: Vec<u8> = (0..SIZE).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let data = Bytes::from(data);
        S3::open(&settings).unwrap().put(&key(), Body::Bytes(data.clone())).await.unwrap();
        let store = S3::open(&S3Settings { timeout: TIMEOUT, ..settings }).unwrap();
        Self { _server: server, proxy, store, data }
    }

    /// The object, and its first bytes.
    async fn begin(&self) -> (Object, Vec<u8>) {
        let mut object = self.store.read(&key(), None).await.unwrap().unwrap();
        let first = object.bytes.try_next().await.unwrap().unwrap();
        (object, first.to_vec())
    }

    /// The reader does something else for longer than any time limit. What is slow here is the input of the test: nothing
    /// is waited for.
    async fn pause() {
        tokio::time::sleep(2 * TIMEOUT).await;
    }

    async fn finish(&self, (object, mut bytes): (Object, Vec<u8>)) {
        let rest = tokio::time::timeout(SOON, object.collect()).await.unwrap().unwrap();
        bytes.extend_from_slice(&rest);
        assert!(bytes == self.data, "{} of {SIZE} bytes came, or others", bytes.len());
    }
}

fn key() -> Key {
    Key::root("large").text("object")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_may_be_as_slow_as_it_likes() {
    let scene = Scene::new().await;
    let begun = scene.begin().await;
    Scene::pause().await;
    scene.finish(begun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_download_goes_on_after_a_broken_connection() {
    let scene = Scene::new().await;
    let begun = scene.begin().await;
    Scene::pause().await;
    scene.proxy.cut().await;
    scene.finish(begun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_falls_silent_in_the_middle_is_an_error_in_time() {
    let scene = Scene::new().await;
    let (object, _) = scene.begin().await;
    scene.proxy.stall().await;
    let error = tokio::time::timeout(SOON, object.collect()).await.expect("an end").unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}
