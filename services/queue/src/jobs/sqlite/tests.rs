//! The contract on SQLite.

use std::sync::Arc;

use crate::jobs::{
    Jobs,
    conformance::{Store, run},
    sqlite::SqliteJobs,
};

async fn open() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    let jobs: Arc<dyn Jobs> = Arc::new(SqliteJobs::open(&path).await.unwrap());
    let reopen = move || {
        let path = path.clone();
        Box::pin(async move { Arc::new(SqliteJobs::open(&path).await.unwrap()) as Arc<dyn Jobs> }) as _
    };
    Store { jobs, reopen: Box::new(reopen), _guard: Box::new(folder) }
}

run!(open);

#[tokio::test]
async fn two_processes_may_start_on_one_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    let opened = futures::future::join_all((0..4).map(|_| SqliteJobs::open(&path))).await;
    for jobs in opened {
        jobs.unwrap().probe().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.sqlite");
    std::fs::write(&path, "no database at all, just some words in a file".repeat(100)).unwrap();
    let error = SqliteJobs::open(&path).await.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("file is not a database"), "{error:?}");
}
