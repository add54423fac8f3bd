//! What is left of uploads and deletions that are cut short at any step.

use std::{
    ops::Range,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::*;
use crate::{
    content::MediaType,
    storage::{Backend, Body, Filesystem, Key, Object},
    upload::{Received, Upload},
};

/// A store that is cut off after a number of writes: neither these nor the reads after them get through.
#[derive(Debug)]
struct CutOff {
    inner: Filesystem,
    writes_left: AtomicI64,
}

impl CutOff {
    fn write(&self) -> Result<(), StorageError> {
        let left = self.writes_left.fetch_sub(1, Ordering::SeqCst);
        self.fail_unless(left > 0)
    }

    fn fail_unless(&self, open: bool) -> Result<(), StorageError> {
        let source = || Box::new(std::io::Error::other("cut off"));
        if open { Ok(()) } else { Err(StorageError::Unavailable { doing: "testing", source: source() }) }
    }

    fn is_open(&self) -> bool {
        self.writes_left.load(Ordering::SeqCst) >= 0
    }
}

impl Storage for CutOff {
    fn backend(&self) -> Backend {
        self.inner.backend()
    }

    fn put<'a>(&'a self, key: &'a Key, body: Body) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.write()?;
            self.inner.put(key, body).await
        })
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<bool, StorageError>> {
        Box::pin(async move {
            self.write()?;
            self.inner.create(key, bytes).await
        })
    }

    fn read<'a>(
        &'a self,
        key: &'a Key,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Option<Object>, StorageError>> {
        Box::pin(async move {
            self.fail_unless(self.is_open())?;
            self.inner.read(key, range).await
        })
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, StorageError>> {
        self.inner.list(folder, after, limit)
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>, StorageError>> {
        self.inner.folders(folder)
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.write()?;
            self.inner.delete(key).await
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StorageError>> {
        self.inner.probe()
    }
}

const CSS: &[u8] = b".a { margin: 0px 0px 0px 0px; color: #ff0000; }\n.b { margin: 0px; color: #ff0000; }\n";

fn catalog(directory: &std::path::Path, writes: i64) -> Catalog {
    let store = CutOff { inner: Filesystem::open(directory).unwrap(), writes_left: AtomicI64::new(writes) };
    let spool = Spool::open(directory).unwrap();
    Catalog::new(&Config::default(), Arc::new(store), spool, Metrics::new(), &Scope::default())
}

async fn received(catalog: &Catalog) -> Received {
    let mut upload = Upload::new(catalog.spool().to_owned(), 1 << 20);
    upload.push(CSS).await.unwrap();
    upload.finish().await.unwrap()
}

fn new_asset() -> NewAsset {
    NewAsset {
        owner: "Alice".into(),
        name: "a.css".into(),
        media_type: MediaType::of_name("a.css"),
        visibility: Visibility::Public,
        tags: vec!["deploy".into()],
    }
}

fn id() -> String {
    blake3::hash(CSS).to_hex().to_string()
}

/// Everything there is to see of the asset agrees; says whether it is there.
async fn is_whole(catalog: &Catalog) -> bool {
    let stat = catalog.stat("Alice", &id()).await;
    let by_hash = catalog.find(&id(), "a.css").await.unwrap();
    let by_name = catalog.find_newest("Alice", "a.css").await.unwrap();
    assert_eq!((by_hash.is_some(), by_name.is_some()), (stat.is_ok(), stat.is_ok()));
    assert_eq!(catalog.list("Alice", "", 10).await.unwrap().assets.len(), usize::from(stat.is_ok()));
    if let Some(published) = by_hash {
        let (_, bytes) = catalog.get("Alice", &id()).await.unwrap();
        let original = Object { size: 0, bytes }.collect().await.unwrap();
        assert_eq!(original, CSS);
        let opened =
            catalog.open(&published, crate::compress::Encoding::Identity, None).await.unwrap().unwrap();
        let served = Object { size: 0, bytes: opened.bytes }.collect().await.unwrap();
        assert_eq!(served, ".a,.b{color:red;margin:0}");
    }
    stat.is_ok()
}

/// Objects that hold somebody's bytes or lead to them; entries of names and tags that lead nowhere hold nothing.
fn left_in(directory: &std::path::Path) -> usize {
    let folders = ["originals", "variants", "public", "records"];
    folders.iter().map(|folder| files(&directory.join("objects").join(folder))).sum()
}

fn files(folder: &std::path::Path) -> usize {
    let count = |path: std::path::PathBuf| if path.is_dir() { files(&path) } else { 1 };
    std::fs::read_dir(folder).into_iter().flatten().map(|entry| count(entry.unwrap().path())).sum()
}

#[tokio::test]
async fn an_upload_cut_off_at_any_write_is_whole_or_absent_and_works_again() {
    let (mut refused, mut stored) = (0, 0);
    for writes in 0..16 {
        let directory = tempfile::tempdir().unwrap();
        let cut = catalog(directory.path(), writes);
        let received_bytes = received(&cut).await;
        let acknowledged = cut.put(new_asset(), received_bytes).await.is_ok();
        drop(cut);
        let catalog = catalog(directory.path(), i64::MAX);
        // Unacknowledged, it may be there or not; acknowledged, it is.
        let there = catalog.stat("Alice", &id()).await.is_ok();
        assert!(there || !acknowledged, "lost after {writes} writes");
        assert_eq!(is_whole(&catalog).await, there, "after {writes} writes");
        if acknowledged {
            stored += 1;
        } else {
            refused += 1;
        }
        if !there {
            catalog.sweep(Duration::ZERO).await.unwrap();
            assert_eq!(left_in(directory.path()), 0, "left behind after {writes} writes");
        }
        let again = received(&catalog).await;
        assert_eq!(catalog.put(new_asset(), again).await.unwrap().1, there);
        assert!(is_whole(&catalog).await, "again after {writes} writes");
    }
    assert!(refused > 5 && stored > 2, "{refused} refused, {stored} stored");
}

#[tokio::test]
async fn a_deletion_cut_off_at_any_write_shows_nothing_and_is_swept() {
    let (mut refused, mut deleted) = (0, 0);
    for writes in 0..16 {
        let directory = tempfile::tempdir().unwrap();
        let before = catalog(directory.path(), i64::MAX);
        let bytes = received(&before).await;
        before.put(new_asset(), bytes).await.unwrap();
        drop(before);
        let cut = catalog(directory.path(), writes);
        let acknowledged = cut.delete("Alice", &id()).await.is_ok();
        drop(cut);
        let catalog = catalog(directory.path(), i64::MAX);
        assert_eq!(is_whole(&catalog).await, writes == 0, "after {writes} writes");
        if acknowledged {
            deleted += 1;
        } else {
            refused += 1;
        }
        catalog.delete("Alice", &id()).await.unwrap();
        catalog.sweep(Duration::ZERO).await.unwrap();
        assert!(!is_whole(&catalog).await);
        assert_eq!(left_in(directory.path()), 0, "left behind after {writes} writes");
    }
    assert!(refused > 5 && deleted > 2, "{refused} refused, {deleted} deleted");
}

#[tokio::test]
async fn the_sweep_spares_what_is_young_and_what_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = catalog(directory.path(), i64::MAX);
    let bytes = received(&catalog).await;
    catalog.put(new_asset(), bytes).await.unwrap();
    let owner = record::OwnerKey::of("Alice");
    let blob = uuid::Uuid::now_v7().simple().to_string();
    let orphan = owner.originals().text(&"0".repeat(64)).dot(&blob);
    catalog.storage().put(&orphan, Body::Bytes(Bytes::from_static(b"half"))).await.unwrap();
    assert_eq!(catalog.sweep(Duration::from_secs(60)).await.unwrap(), 0);
    assert!(catalog.storage().read(&orphan, None).await.unwrap().is_some());
    assert_eq!(catalog.sweep(Duration::ZERO).await.unwrap(), 1);
    assert!(catalog.storage().read(&orphan, None).await.unwrap().is_none());
    assert!(is_whole(&catalog).await);
}

#[tokio::test]
async fn variants_lost_from_the_store_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let first = catalog(directory.path(), i64::MAX);
    let bytes = received(&first).await;
    first.put(new_asset(), bytes).await.unwrap();
    std::fs::remove_dir_all(directory.path().join("objects/variants")).unwrap();
    drop(first);
    assert!(is_whole(&catalog(directory.path(), i64::MAX)).await);
}
