//! Objects in a bucket of any S3-compatible store.
//!
//! The store's own deadlines are too patient for a caller who waits, so every call has ours. The bytes of an object have
//! none as a whole: they come as fast as their reader takes them, and only the store must not keep it waiting. Objects
//! carry no metadata: what they mean is in other objects, the same as on the file system.

use std::{future::Future, ops::Range, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use tokio::io::AsyncReadExt as _;
use weft_mesh::context;

use super::{Backend, Body, Key, Object, Result, Storage, StorageError};

/// Up to this size one request stores an object; above it goes up in parts of this size, one at a time in memory.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// How to reach a bucket.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// Name of the bucket, which must exist.
    pub bucket: String,
    /// URL of the store; empty means AWS.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Access key; with an empty one the credentials come from the instance or pod.
    pub access_key_id: String,
    /// Secret key.
    pub secret_access_key: String,
    /// Put before every key, so that several meshes may share a bucket; may be empty.
    pub prefix: String,
    /// Time limit of one call, of each part of a long upload, and of waiting for the next bytes of an object.
    pub timeout: Duration,
}

/// A bucket of objects.
#[derive(Debug)]
pub struct S3 {
    store: AmazonS3,
    prefix: String,
    timeout: Duration,
}

impl S3 {
    /// Prepares the client. Connects to nothing, so that a service starts while its store is down.
    pub fn open(settings: &S3Settings) -> std::result::Result<Self, object_store::Error> {
        let client = ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(settings.timeout.min(Duration::from_secs(2)))
            // Theirs would run until the end of the body and so cut off a slow reader; ours are `limited` and `unstalled`.
            .with_timeout_disabled()
            .with_pool_idle_timeout(Duration::from_secs(20));
        // One quick retry covers a pooled connection that the store has closed, and a download that breaks off goes on
        // where it was, however long it has run; more is the caller's decision.
        let retry = RetryConfig { max_retries: 1, retry_timeout: Duration::MAX, backoff: quick_backoff() };
        weft_runtime::install_tls_provider();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_client_options(client)
            .with_retry(retry);
        if !settings.endpoint.is_empty() {
            builder = builder.with_endpoint(&settings.endpoint);
        }
        if !settings.access_key_id.is_empty() {
            builder = builder
                .with_access_key_id(&settings.access_key_id)
                .with_secret_access_key(&settings.secret_access_key);
        }
        let prefix = settings.prefix.trim_matches('/').to_owned();
        Ok(Self { store: builder.build()?, prefix, timeout: settings.timeout })
    }

    fn path(&self, key: &Key) -> Path {
        if self.prefix.is_empty() {
            Path::from(key.as_str())
        } else {
            Path::from(format!("{}/{key}", self.prefix))
        }
    }

    /// Runs one request of the store within our time limit and what the caller still waits.
    async fn limited<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(context::remaining(self.timeout), call).await {
            Ok(result) => result.map_err(|e| classify(doing, e)),
            Err(elapsed) => Err(StorageError::Unavailable { doing, source: Box::new(elapsed) }),
        }
    }

    async fn put_parts(&self, path: &Path, file: tokio::fs::File) -> Result<()> {
        let mut upload = self.limited("starting an upload", self.store.put_multipart(path)).await?;
        let sent = self.send_parts(&mut upload, file).await;
        if sent.is_err() {
            // What has gone up is dropped; a store that is down forgets it by its own rule for unfinished uploads.
            let _ = self.limited("dropping an upload", upload.abort()).await;
        }
        sent
    }

    async fn send_parts(
        &self,
        upload: &mut Box<dyn object_store::MultipartUpload>,
        mut file: tokio::fs::File,
    ) -> Result<()> {
        loop {
            let part = read_part(&mut file).await.map_err(|e| failed("reading a spooled upload", e))?;
            let last = (part.len() as u64) < PART_BYTES;
            if !part.is_empty() {
                self.limited("uploading a part", upload.put_part(part.freeze().into())).await?;
            }
            if last {
                return self.limited("completing an upload", upload.complete()).await.map(drop);
            }
        }
    }
}

impl Storage for S3 {
    fn backend(&self) -> Backend {
        Backend::S3
    }

    fn put<'a>(&'a self, key: &'a Key, body: Body) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = self.path(key);
            let size = body.size();
            let payload: PutPayload = match body {
                Body::Bytes(bytes) => bytes.into(),
                Body::File { path: file, .. } => {
                    let doing = "reading a spooled upload";
                    let mut file = tokio::fs::File::open(file).await.map_err(|e| failed(doing, e))?;
                    if size > PART_BYTES {
                        return self.put_parts(&path, file).await;
                    }
                    read_part(&mut file).await.map_err(|e| failed(doing, e))?.freeze().into()
                }
            };
            self.limited("writing an object", self.store.put(&path, payload)).await.map(drop)
        })
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let path = self.path(key);
            let call = self.store.put_opts(&path, bytes.into(), PutMode::Create.into());
            let result = self.limited("creating an object", async {
                match call.await {
                    Ok(_) => Ok(true),
                    Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                    Err(e) => Err(e),
                }
            });
            result.await
        })
    }

    fn read<'a>(&'a self, key: &'a Key, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Option<Object>>> {
        Box::pin(async move {
            let doing = "reading an object";
            let path = self.path(key);
            let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
            let call = self.store.get_opts(&path, options);
            let found = self.limited(doing, async {
                match call.await {
                    Ok(found) => Ok(Some(found)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(e) => Err(e),
                }
            });
            let Some(found) = found.await? else { return Ok(None) };
            let size = found.meta.size;
            Ok(Some(Object { size, bytes: Box::pin(unstalled(doing, self.timeout, found.into_stream())) }))
        })
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let prefix = self.path(folder);
            let listing = match after {
                Some(after) => {
                    let offset = Path::from(format!("{prefix}/{after}"));
                    self.store.list_with_offset(Some(&prefix), &offset)
                }
                None => self.store.list(Some(&prefix)),
            };
            let names = listing.try_filter_map(|found| {
                let below = found
                    .location
                    .prefix_match(&prefix)
                    .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>());
                let name = below.filter(|parts| parts.len() == 1).and_then(|mut parts| parts.pop());
                std::future::ready(Ok(name))
            });
            self.limited("listing objects", names.take(limit).try_collect()).await
        })
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let prefix = self.path(folder);
            let call = self.store.list_with_delimiter(Some(&prefix));
            let listing = self.limited("listing folders", call).await?;
            let names = listing.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
            Ok(names.collect())
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let path = self.path(key);
            let call = self.store.delete(&path);
            self.limited("deleting an object", async {
                match call.await {
                    Err(object_store::Error::NotFound { .. }) => Ok(()),
                    other => other,
                }
            })
            .await
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.list(&Key::root("records"), None, 1).await.map(drop) })
    }
}

/// The bytes of an object; ends in an error once the store lets its reader wait for longer than `limit`.
///
/// The time in which the reader does not ask does not count: reqwest's own read timeout counts it, and would take a slow
/// reader for a silent store.
fn unstalled(
    doing: &'static str,
    limit: Duration,
    bytes: impl Stream<Item = object_store::Result<Bytes>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold(bytes, move |mut bytes| async move {
        match tokio::time::timeout(limit, bytes.try_next()).await {
            Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, bytes))),
            Ok(Err(e)) => Err(classify(doing, e)),
            Err(silent) => Err(StorageError::Unavailable { doing, source: Box::new(silent) }),
        }
    })
}

async fn read_part(file: &mut tokio::fs::File) -> std::io::Result<BytesMut> {
    let mut part = BytesMut::new();
    let mut limited = file.take(PART_BYTES);
    while limited.read_buf(&mut part).await? > 0 {}
    Ok(part)
}

fn quick_backoff() -> object_store::BackoffConfig {
    object_store::BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(200),
        base: 2.0,
    }
}

fn classify(doing: &'static str, e: object_store::Error) -> StorageError {
    use object_store::Error as E;

    match e {
        E::NotFound { .. } | E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => {
            StorageError::Failed { doing, source: Box::new(e) }
        }
        // Credentials and policies are mended on the store's side: to a caller the store is away.
        other => StorageError::Unavailable { doing, source: Box::new(other) },
    }
}

fn failed(doing: &'static str, e: std::io::Error) -> StorageError {
    StorageError::Failed { doing, source: Box::new(e) }
}
