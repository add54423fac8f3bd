//! The contract of `Storage`, sentence by sentence, on each implementation.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use bytes::Bytes;
use weft_assets::storage::{Body, Filesystem, Key, Storage};

/// A store, and how to open it anew as after a crash.
pub(crate) trait Place {
    fn open(&self) -> Arc<dyn Storage>;

    /// Whether a folder may be read as if it were an object. The S3 of these tests keeps objects in folders and fails there;
    /// a real one has no folders.
    fn reads_folders(&self) -> bool {
        true
    }
}

struct Directory(tempfile::TempDir);

impl Place for Directory {
    fn open(&self) -> Arc<dyn Storage> {
        Arc::new(Filesystem::open(self.0.path()).unwrap())
    }
}

#[cfg(feature = "real-backends")]
struct Bucket {
    server: weft_testkit::S3,
    settings: weft_assets::storage::S3Settings,
}

#[cfg(feature = "real-backends")]
impl Place for Bucket {
    fn open(&self) -> Arc<dyn Storage> {
        Arc::new(weft_assets::storage::S3::open(&self.settings).unwrap())
    }

    fn reads_folders(&self) -> bool {
        false
    }
}

#[cfg(feature = "real-backends")]
async fn bucket() -> Bucket {
    use weft_testkit::S3;

    let server = S3::start().await.unwrap();
    let settings = weft_assets::storage::S3Settings {
        bucket: server.bucket().await.unwrap(),
        endpoint: server.url().to_owned(),
        region: S3::REGION.into(),
        access_key_id: S3::ACCESS_KEY_ID.into(),
        secret_access_key: S3::SECRET_ACCESS_KEY.into(),
        prefix: "mesh/one".into(),
        timeout: std::time::Duration::from_secs(5),
    };
    Bucket { server, settings }
}

macro_rules! on_each {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn filesystem() {
                let place = super::Directory(tempfile::tempdir().unwrap());
                super::$name(&place).await;
            }

            #[cfg(feature = "real-backends")]
            #[tokio::test(flavor = "multi_thread")]
            async fn s3() {
                super::$name(&super::bucket().await).await;
            }
        }
    )+ };
}

on_each!(
    c01_put_is_whole_or_not_at_all,
    c02_put_replaces_and_create_does_not,
    c03_one_of_concurrent_creates_wins,
    c04_a_missing_object_is_none,
    c05_a_range_gives_exactly_its_bytes,
    c06_list_gives_names_directly_below,
    c07_folders_gives_folders_directly_below,
    c08_deleting_what_is_missing_is_fine,
    c09_a_body_from_a_file_arrives_whole,
    c10_what_is_acknowledged_is_there_after_a_restart,
);

fn key(text: &str) -> Key {
    text.split('/').fold(Key::root("top"), |key, segment| key.text(segment))
}

fn bytes(text: &str) -> Body {
    Body::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

async fn read(store: &dyn Storage, key: &Key) -> Option<Bytes> {
    match store.read(key, None).await.unwrap() {
        Some(object) => Some(object.collect().await.unwrap()),
        None => None,
    }
}

async fn c01_put_is_whole_or_not_at_all(place: &dyn Place) {
    let store = place.open();
    let key = key("a/b");
    let versions: Vec<Bytes> = (0..4_u8).map(|i| Bytes::from(vec![i; 300_000])).collect();
    store.put(&key, Body::Bytes(versions[0].clone())).await.unwrap();
    let writes = async {
        for version in versions.iter().cycle().take(24) {
            store.put(&key, Body::Bytes(version.clone())).await.unwrap();
        }
    };
    let reads = async {
        for _ in 0..60 {
            let seen = read(&*store, &key).await.unwrap();
            assert!(versions.contains(&seen), "a mixture, or a part: {} bytes", seen.len());
        }
    };
    futures::join!(writes, reads);
}

async fn c02_put_replaces_and_create_does_not(place: &dyn Place) {
    let store = place.open();
    let key = key("x");
    assert!(store.create(&key, "one".into()).await.unwrap());
    assert!(!store.create(&key, "two".into()).await.unwrap());
    assert_eq!(read(&*store, &key).await.unwrap(), "one");
    store.put(&key, bytes("three")).await.unwrap();
    assert_eq!(read(&*store, &key).await.unwrap(), "three");
    store.delete(&key).await.unwrap();
    assert!(store.create(&key, "four".into()).await.unwrap());
}

async fn c03_one_of_concurrent_creates_wins(place: &dyn Place) {
    let store = place.open();
    for round in 0..5 {
        let key = key(&format!("race/{round}"));
        let creates = (0..8).map(|i| {
            let (store, key) = (store.clone(), key.clone());
            async move { store.create(&key, Bytes::from(vec![i; 10])).await.unwrap() }
        });
        let won: Vec<bool> = futures::future::join_all(creates).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
        let winner = won.iter().position(|won| *won).unwrap() as u8;
        assert_eq!(read(&*store, &key).await.unwrap(), vec![winner; 10]);
    }
}

async fn c04_a_missing_object_is_none(place: &dyn Place) {
    let store = place.open();
    assert!(store.read(&key("nothing"), None).await.unwrap().is_none());
    assert!(store.read(&key("nothing/below"), Some(0..5)).await.unwrap().is_none());
    store.put(&key("folder/file"), bytes("x")).await.unwrap();
    if place.reads_folders() {
        assert!(store.read(&key("folder"), None).await.unwrap().is_none(), "a folder is no object");
    }
}

async fn c05_a_range_gives_exactly_its_bytes(place: &dyn Place) {
    let store = place.open();
    let key = key("r");
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 253) as u8).collect();
    store.put(&key, Body::Bytes(data.clone().into())).await.unwrap();
    for range in [0..1, 0..1_000_000, 999_999..1_000_000, 123_456..654_321, 500_000..2_000_000] {
        let object = store.read(&key, Some(range.clone())).await.unwrap().unwrap();
        assert_eq!(object.size, 1_000_000);
        let expected = &data[range.start as usize..(range.end as usize).min(data.len())];
        assert!(object.collect().await.unwrap() == expected, "{range:?}");
    }
}

async fn c06_list_gives_names_directly_below(place: &dyn Place) {
    let store = place.open();
    let folder = key("list");
    assert_eq!(store.list(&folder, None, 10).await.unwrap(), Vec::<String>::new());
    for name in ["b", "a", "c.x", "c-y", "d", "a.b"] {
        store.put(&folder.text(name), bytes("x")).await.unwrap();
    }
    store.put(&folder.text("sub").text("deep"), bytes("x")).await.unwrap();
    store.put(&key("listing").text("z"), bytes("x")).await.unwrap();
    let all = ["a", "a.b", "b", "c-y", "c.x", "d"];
    assert_eq!(store.list(&folder, None, 10).await.unwrap(), all);
    assert_eq!(store.list(&folder, None, 2).await.unwrap(), all[..2]);
    assert_eq!(store.list(&folder, Some("b"), 10).await.unwrap(), all[3..]);
    assert_eq!(store.list(&folder, Some("bb"), 2).await.unwrap(), all[3..5]);
    assert_eq!(store.list(&folder, Some("d"), 10).await.unwrap(), Vec::<String>::new());
    // Names that are kept as hashes are listed as such, and found by what was listed.
    let odd = key("odd");
    store.put(&odd.text("Größe/1"), bytes("x")).await.unwrap();
    let listed = store.list(&odd, None, 10).await.unwrap();
    assert_eq!(read(&*store, &odd.listed(&listed[0])).await.unwrap(), "x");
}

async fn c07_folders_gives_folders_directly_below(place: &dyn Place) {
    let store = place.open();
    let top = key("tree");
    assert_eq!(store.folders(&top).await.unwrap(), Vec::<String>::new());
    store.put(&top.text("b").text("1"), bytes("x")).await.unwrap();
    store.put(&top.text("a").text("1").text("2"), bytes("x")).await.unwrap();
    store.put(&top.text("file"), bytes("x")).await.unwrap();
    assert_eq!(store.folders(&top).await.unwrap(), ["a", "b"]);
    store.delete(&top.text("b").text("1")).await.unwrap();
    assert_eq!(store.folders(&top).await.unwrap(), ["a"], "an empty folder is none");
}

async fn c08_deleting_what_is_missing_is_fine(place: &dyn Place) {
    let store = place.open();
    store.delete(&key("never/was")).await.unwrap();
    store.put(&key("was"), bytes("x")).await.unwrap();
    store.delete(&key("was")).await.unwrap();
    store.delete(&key("was")).await.unwrap();
    assert_eq!(read(&*store, &key("was")).await, None);
}

async fn c09_a_body_from_a_file_arrives_whole(place: &dyn Place) {
    let store = place.open();
    let directory = tempfile::tempdir().unwrap();
    // Around the size from which bytes go up in parts.
    for size in [0, 1, 8 << 20, (8 << 20) + 1, 20_000_000] {
        let path = directory.path().join(size.to_string());
        let data: Vec<u8> = (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let key = key(&format!("file-{size}"));
        store.put(&key, Body::File { path: path.clone(), size: size as u64 }).await.unwrap();
        assert!(read(&*store, &key).await.unwrap() == data, "{size} bytes");
        assert!(Path::exists(&path), "the file stays");
    }
}

async fn c10_what_is_acknowledged_is_there_after_a_restart(place: &dyn Place) {
    let store = place.open();
    store.put(&key("kept/put"), bytes("one")).await.unwrap();
    store.create(&key("kept/created"), "two".into()).await.unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(read(&*store, &key("kept/put")).await.unwrap(), "one");
    assert_eq!(read(&*store, &key("kept/created")).await.unwrap(), "two");
    let names: BTreeSet<_> = store.list(&key("kept"), None, 10).await.unwrap().into_iter().collect();
    assert_eq!(names, BTreeSet::from(["created".to_owned(), "put".to_owned()]));
}

#[tokio::test]
async fn c11_a_directory_away_is_unavailable_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = Filesystem::open(directory.path()).unwrap();
    store.put(&key("k"), bytes("v")).await.unwrap();
    // The data directory vanishes behind a file, as a lost mount does, and comes back.
    let (objects, aside) = (directory.path().join("objects"), directory.path().join("aside"));
    std::fs::rename(&objects, &aside).unwrap();
    std::fs::write(&objects, b"").unwrap();
    assert!(store.probe().await.unwrap_err().is_unavailable());
    assert!(store.put(&key("k"), bytes("w")).await.unwrap_err().is_unavailable());
    std::fs::remove_file(&objects).unwrap();
    std::fs::rename(&aside, &objects).unwrap();
    store.probe().await.unwrap();
    assert_eq!(read(&store, &key("k")).await.unwrap(), "v");
}

#[cfg(feature = "real-backends")]
#[tokio::test(flavor = "multi_thread")]
async fn c11_a_bucket_away_is_unavailable_in_time_until_it_is_back() {
    use std::time::Duration;

    let mut place = bucket().await;
    place.settings.timeout = Duration::from_secs(1);
    let store = place.open();
    store.put(&key("k"), bytes("v")).await.unwrap();
    for stop in [true, false] {
        if stop {
            place.server.stop().await.unwrap();
        } else {
            place.server.pause().await.unwrap();
        }
        let calls = async {
            assert!(store.read(&key("k"), None).await.unwrap_err().is_unavailable());
            assert!(store.put(&key("k"), bytes("w")).await.unwrap_err().is_unavailable());
            assert!(store.create(&key("l"), "w".into()).await.unwrap_err().is_unavailable());
            assert!(store.delete(&key("l")).await.unwrap_err().is_unavailable());
            assert!(store.list(&key("l"), None, 1).await.unwrap_err().is_unavailable());
            assert!(store.probe().await.unwrap_err().is_unavailable());
        };
        // A paused store never answers: that each call ends at all is our time limit's doing.
        tokio::time::timeout(Duration::from_secs(60), calls).await.expect("an end of each call");
        if stop {
            place.server.restart().await.unwrap();
        } else {
            place.server.resume().await.unwrap();
        }
        store.probe().await.unwrap();
        store.put(&key("k"), bytes("v")).await.unwrap();
    }
    assert_eq!(read(&*store, &key("k")).await.unwrap(), "v");
}
