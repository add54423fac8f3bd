//! Receiving bytes: hashed and counted while they come, in memory while they are few, else in a file.

use std::{io, ops::Range, path::PathBuf};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use crate::{
    error::Error,
    memory,
    storage::{Body, ByteStream, StorageError},
};

/// Up to this size an upload stays in memory.
const MEMORY_BYTES: usize = 256 * 1024;

/// Size of the pieces a spooled file is read in.
const CHUNK_BYTES: usize = 256 * 1024;

/// An upload that is coming in.
#[derive(Debug)]
pub struct Upload {
    directory: PathBuf,
    limit: u64,
    hasher: blake3::Hasher,
    size: u64,
    held: Held,
}

/// An upload that has come in whole; its file, if any, goes when this does.
#[derive(Debug)]
pub struct Received {
    /// BLAKE3 hash of the bytes, lower-case hex.
    pub id: String,
    /// How many bytes.
    pub size: u64,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Memory(BytesMut),
    File(NamedTempFile, tokio::fs::File),
}

impl Upload {
    /// Starts an upload that spools below `directory` and refuses more than `limit` bytes.
    #[must_use]
    pub fn new(directory: PathBuf, limit: u64) -> Self {
        Self { directory, limit, hasher: blake3::Hasher::new(), size: 0, held: Held::Memory(BytesMut::new()) }
    }

    /// Takes the next bytes.
    pub async fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.size += chunk.len() as u64;
        if self.size > self.limit {
            return Err(Error::invalid("data", format!("more than the {} bytes allowed", self.limit)));
        }
        self.hasher.update(chunk);
        if let Held::Memory(bytes) = &mut self.held {
            if bytes.len() + chunk.len() <= MEMORY_BYTES {
                bytes.extend_from_slice(chunk);
                return Ok(());
            }
            let bytes = std::mem::take(bytes);
            self.held = spill(self.directory.clone(), &bytes).await.map_err(Error::Spool)?;
        }
        if let Held::File(_, file) = &mut self.held {
            file.write_all(chunk).await.map_err(Error::Spool)?;
        }
        Ok(())
    }

    /// Ends the upload.
    pub async fn finish(mut self) -> Result<Received, Error> {
        if let Held::File(_, file) = &mut self.held {
            file.flush().await.map_err(Error::Spool)?;
        }
        Ok(Received { id: self.hasher.finalize().to_hex().to_string(), size: self.size, held: self.held })
    }
}

impl Received {
    /// For the store.
    #[must_use]
    pub fn body(&self) -> Body {
        match &self.held {
            Held::Memory(bytes) => Body::Bytes(Bytes::copy_from_slice(bytes)),
            Held::File(file, _) => Body::File { path: file.path().to_owned(), size: self.size },
        }
    }

    /// The bytes, to be read once more; call it where blocking is fine.
    pub fn reader(&self) -> io::Result<Box<dyn io::Read + '_>> {
        Ok(match &self.held {
            Held::Memory(bytes) => Box::new(&bytes[..]),
            Held::File(file, _) => Box::new(std::fs::File::open(file.path())?),
        })
    }

    /// The bytes, or a range of them, as a stream. The file may go while they are read.
    pub async fn open(&self, range: Option<Range<u64>>) -> io::Result<ByteStream> {
        let file = match &self.held {
            Held::Memory(bytes) => return Ok(memory::once(&Bytes::copy_from_slice(bytes), range)),
            Held::File(file, _) => file.path(),
        };
        let mut file = tokio::fs::File::open(file).await?;
        let range = range.unwrap_or(0..self.size);
        file.seek(io::SeekFrom::Start(range.start)).await?;
        let bytes =
            ReaderStream::with_capacity(file.take(range.end.saturating_sub(range.start)), CHUNK_BYTES);
        let failed = |e| StorageError::Failed { doing: "reading what came in", source: Box::new(e) };
        Ok(Box::pin(bytes.map_err(failed)))
    }

    /// All bytes in memory; call it where blocking is fine.
    pub fn bytes(&self) -> io::Result<Bytes> {
        match &self.held {
            Held::Memory(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            Held::File(file, _) => std::fs::read(file.path()).map(Bytes::from),
        }
    }
}

async fn spill(directory: PathBuf, bytes: &[u8]) -> io::Result<Held> {
    let temporary = tokio::task::spawn_blocking(move || NamedTempFile::new_in(directory))
        .await
        .map_err(io::Error::other)??;
    let mut file = tokio::fs::File::from_std(temporary.reopen()?);
    file.write_all(bytes).await?;
    Ok(Held::File(temporary, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_and_large_uploads_arrive_whole_and_leave_no_file() {
        let directory = tempfile::tempdir().unwrap();
        for size in [0, 1, MEMORY_BYTES, MEMORY_BYTES + 1, 3 * MEMORY_BYTES + 7] {
            let data: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let mut upload = Upload::new(directory.path().to_owned(), u64::MAX);
            for chunk in data.chunks(100_000) {
                upload.push(chunk).await.unwrap();
            }
            let received = upload.finish().await.unwrap();
            assert_eq!(received.size, size as u64);
            assert_eq!(received.id, blake3::hash(&data).to_hex().as_str());
            assert_eq!(received.bytes().unwrap(), data);
            assert_eq!(received.body().size(), size as u64);
            drop(received);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn too_many_bytes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut upload = Upload::new(directory.path().to_owned(), 10);
        upload.push(b"12345").await.unwrap();
        let error = upload.push(b"678901").await.unwrap_err();
        assert_eq!(error.to_string(), "data: more than the 10 bytes allowed");
    }
}
