//! Bytes up and down.

mod store;

use bytes::Bytes;
use futures::TryStreamExt as _;
use tonic::Status;
use weft_client::{Client, Error, Source, Upload};
use weft_proto::assets::v1::Visibility;

use store::{Store, Verdict};

async fn client(store: &Store) -> Client {
    Client::connect(&store.server.url(), "ada").await.unwrap()
}

fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes.into()
}

#[tokio::test]
async fn bytes_arrive_whole_from_memory_and_from_a_file() {
    let bytes = noise(1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    for source in [Source::Bytes(bytes.clone()), Source::File(file.path().to_owned())] {
        let store = Store::start([Verdict::Take]);
        let uploaded = client(&store).await.assets().put(&Upload::public("noise.bin", source)).await.unwrap();
        assert!(!uploaded.existed);
        let [attempt] = &store.attempts()[..] else { panic!() };
        assert_eq!(
            (attempt.header.size_bytes, attempt.header.visibility()),
            (Some(1_000_000), Visibility::Public)
        );
        assert_eq!(attempt.data, bytes);
        assert!(attempt.largest <= 1024 * 1024, "the contract's limit of a chunk");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_header_alone() {
    let store = Store::start([Verdict::Take]);
    let upload = Upload::private("empty", Source::Bytes(Bytes::new()));
    client(&store).await.assets().put(&upload).await.unwrap();
    assert_eq!(store.attempts()[0].header.size_bytes, Some(0));
}

#[tokio::test]
async fn an_upload_that_meets_a_restart_is_sent_again_once() {
    let bytes = noise(600_000);
    let upload = Upload::private("a.bin", Source::Bytes(bytes.clone()));
    let unavailable = || Verdict::Refuse(Status::unavailable("draining"));

    let store = Store::start([unavailable(), Verdict::Take]);
    client(&store).await.assets().put(&upload).await.unwrap();
    assert_eq!(store.attempts().last().unwrap().data, bytes);

    let store = Store::start([unavailable(), unavailable(), Verdict::Take]);
    let error = client(&store).await.assets().put(&upload).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), store.attempts().len()), ("draining", 2));
}

#[tokio::test]
async fn an_upload_refused_early_is_not_read_to_its_end() {
    let store = Store::start([Verdict::RefuseAtHeader(Status::invalid_argument("name"))]);
    let upload = Upload::private("a/b", Source::Bytes(noise(50_000_000)));
    let error = client(&store).await.assets().put(&upload).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), store.attempts().len()), ("name", 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_makes_no_call() {
    let store = Store::start([]);
    let upload = Upload::private("a.bin", Source::File("/nowhere/a.bin".into()));
    let error = client(&store).await.assets().put(&upload).await.unwrap_err();
    assert!(matches!(&error, Error::File { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot read /nowhere/a.bin");
    assert!(store.attempts().is_empty());
}

#[tokio::test]
async fn a_download_gives_the_asset_and_then_its_bytes() {
    let store = Store::start([]);
    let assets = client(&store).await.assets();
    let download = assets.get("known").await.unwrap();
    assert_eq!(download.asset.name, "known.txt");
    let chunks: Vec<Bytes> = download.bytes.try_collect().await.unwrap();
    assert_eq!(chunks.concat(), b"hello world");
    assert_eq!(assets.get("unknown").await.err().unwrap().to_string(), "no such asset");
}

#[tokio::test]
async fn a_download_that_breaks_off_is_an_error_and_not_an_end() {
    let store = Store::start([]);
    let download = client(&store).await.assets().get("endless").await.unwrap();
    store.server.scissors.cut();
    let outcome: Result<Vec<Bytes>, _> = download.bytes.try_collect().await;
    assert!(outcome.unwrap_err().is_transient());
}
