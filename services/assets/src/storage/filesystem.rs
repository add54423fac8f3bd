//! Objects as files below a directory.
//!
//! An object is written to a temporary file, synced, and renamed to its place; then its folder is synced. So it is there
//! whole or not at all, and stays after a crash of the machine. Names that start with a dot are temporary and no objects.

use std::{
    fs, io,
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{TryStreamExt as _, future::BoxFuture};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{Backend, Body, Key, Object, Result, Storage, StorageError};
use crate::spool;

/// Size of the pieces a file is read in.
const CHUNK_BYTES: usize = 256 * 1024;

/// How often a write starts again because its folder was removed in between.
const ATTEMPTS: usize = 8;

/// A directory of objects.
#[derive(Debug)]
pub struct Filesystem {
    objects: PathBuf,
    /// Two processes would take each other's temporary files for leftovers.
    _claim: fs::File,
}

impl Filesystem {
    /// Opens or makes `directory` and removes what an earlier process left half written.
    ///
    /// Fails, naming the path, when it cannot be read and written.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let name_it = |e: io::Error| {
            io::Error::new(e.kind(), format!("data directory {} cannot be used: {e}", directory.display()))
        };
        let claim = spool::claim(directory).map_err(name_it)?;
        let objects = directory.join("objects");
        fs::create_dir_all(&objects).map_err(name_it)?;
        fs::read_dir(&objects).map_err(name_it)?;
        let probe = objects.join(temporary_name());
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(name_it)?;
        remove_temporary(&objects).map_err(name_it)?;
        Ok(Self { objects, _claim: claim })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.objects.join(key.as_str())
    }
}

impl Storage for Filesystem {
    fn backend(&self) -> Backend {
        Backend::Filesystem
    }

    fn put<'a>(&'a self, key: &'a Key, body: Body) -> BoxFuture<'a, Result<()>> {
        let path = self.path(key);
        Box::pin(blocking("writing an object", move || {
            write(&path, &body, |temporary| fs::rename(temporary, &path))
        }))
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<bool>> {
        let path = self.path(key);
        Box::pin(blocking("creating an object", move || {
            // A hard link fails where a name exists; a rename would replace it.
            let link =
                |temporary: &Path| fs::hard_link(temporary, &path).and_then(|()| fs::remove_file(temporary));
            match write(&path, &Body::Bytes(bytes), link) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(e),
            }
        }))
    }

    fn read<'a>(&'a self, key: &'a Key, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Option<Object>>> {
        Box::pin(async move { open(&self.path(key), range).await.map_err(classify("reading an object")) })
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        let path = self.path(folder);
        let after = after.map(str::to_owned);
        Box::pin(blocking("listing objects", move || {
            let mut names = entries(&path, fs::FileType::is_file)?;
            if let Some(after) = after {
                names.retain(|name| *name > after);
            }
            names.sort_unstable();
            names.truncate(limit);
            Ok(names)
        }))
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>> {
        let path = self.path(folder);
        Box::pin(blocking("listing folders", move || {
            let mut names = entries(&path, fs::FileType::is_dir)?;
            names.sort_unstable();
            Ok(names)
        }))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        let path = self.path(key);
        let objects = self.objects.clone();
        Box::pin(blocking("deleting an object", move || {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if is_missing(&e) => return Ok(()),
                Err(e) => return Err(e),
            }
            let Some(folder) = path.parent() else { return Ok(()) };
            sync_directory(folder)?;
            remove_empty(folder, &objects);
            Ok(())
        }))
    }

    fn probe(&self) -> BoxFuture<'_, Result<()>> {
        let probe = self.objects.join(temporary_name());
        Box::pin(blocking("probing the data directory", move || {
            fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe))
        }))
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(classify(doing)),
        Err(e) => Err(StorageError::Failed { doing, source: Box::new(e) }),
    }
}

/// A full, read-only or vanished disk may come back: nothing here is the caller's fault.
fn classify(doing: &'static str) -> impl Fn(io::Error) -> StorageError {
    move |source| StorageError::Unavailable { doing, source: Box::new(source) }
}

/// Writes a synced temporary file beside `path` and lets `place` give it its name.
fn write(path: &Path, body: &Body, place: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut attempt = 1;
    loop {
        make_directories(folder)?;
        let temporary = folder.join(temporary_name());
        let written = fill(&temporary, body).and_then(|()| place(&temporary));
        match written {
            Ok(()) => return sync_directory(folder),
            // A concurrent delete found the folder empty and removed it.
            Err(e) if is_missing(&e) && !folder.exists() && attempt < ATTEMPTS => attempt += 1,
            Err(e) => {
                let _ = fs::remove_file(&temporary);
                return Err(e);
            }
        }
    }
}

fn fill(temporary: &Path, body: &Body) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(temporary)?;
    match body {
        Body::Bytes(bytes) => file.write_all(bytes)?,
        Body::File { path, size } => {
            let copied = io::copy(&mut fs::File::open(path)?, &mut file)?;
            if copied != *size {
                return Err(io::Error::other(format!("copied {copied} of {size} bytes")));
            }
        }
    }
    file.sync_all()
}

/// Makes a folder and all above it, and syncs every folder that got a new entry.
fn make_directories(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(above) = folder.parent() else { return Ok(()) };
    make_directories(above)?;
    match fs::create_dir(folder) {
        Ok(()) => sync_directory(above),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Removed again by a concurrent delete; the writer's loop starts over.
        Err(e) if is_missing(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

fn sync_directory(folder: &Path) -> io::Result<()> {
    match fs::File::open(folder) {
        Ok(directory) => directory.sync_all(),
        Err(e) if is_missing(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes empty folders from `folder` upwards, but not `top` itself; a folder that is not empty stops it.
fn remove_empty(folder: &Path, top: &Path) {
    let mut folder = folder;
    while folder != top && fs::remove_dir(folder).is_ok() {
        let Some(above) = folder.parent() else { return };
        folder = above;
    }
}

fn entries(folder: &Path, wanted: impl Fn(&fs::FileType) -> bool) -> io::Result<Vec<String>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if is_missing(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with('.') && wanted(&entry.file_type()?) {
            names.push(name);
        }
    }
    Ok(names)
}

async fn open(path: &Path, range: Option<Range<u64>>) -> io::Result<Option<Object>> {
    let mut file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(e) if is_missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let size = metadata.len();
    let range = range.unwrap_or(0..size);
    if range.start > 0 {
        file.seek(io::SeekFrom::Start(range.start)).await?;
    }
    let bytes = ReaderStream::with_capacity(file.take(range.end.saturating_sub(range.start)), CHUNK_BYTES)
        .map_err(classify("reading an object"));
    Ok(Some(Object { size, bytes: Box::pin(bytes) }))
}

/// Removes what unfinished writes left. What somebody else removes meanwhile, such as the last delete of a store that was
/// just closed, is gone as it should be.
fn remove_temporary(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if is_missing(&e) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove_temporary(&entry.path()),
            Ok(_) if entry.file_name().as_encoded_bytes().starts_with(b".") => fs::remove_file(entry.path()),
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        };
        removed.or_else(|e| if is_missing(&e) { Ok(()) } else { Err(e) })?;
    }
    Ok(())
}

fn temporary_name() -> String {
    format!(".{}", uuid::Uuid::new_v4().simple())
}

fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
