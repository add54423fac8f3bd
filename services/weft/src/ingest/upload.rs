//! One file: its bytes become an asset, and the asset a document.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use bytes::Bytes;
use weft_client::{Client, Error, Patience, Result, Source, Upload};
use weft_mesh::error::ErrorKind;
use weft_proto::database::v1::DocumentState;

use super::{Found, Step, media::media_type, walk};
use crate::failure;

/// Files up to this size are held in memory, so that they are read once.
const IN_MEMORY_BYTES: u64 = 1024 * 1024;
/// From this size on it is cheaper to ask whether the mesh has the bytes than to send them.
const ASK_FIRST_BYTES: u64 = 64 * 1024;

/// A file's bytes, and what they are.
struct Loaded {
    source: Source,
    hash: String,
    size: u64,
}

/// Uploads a file and registers it as a document.
///
/// # Errors
/// When the mesh did not answer for as long as patience lasts. Everything else is a failure of this file.
pub(super) async fn register(client: &Client, found: Found, patience: Patience) -> Result<Step> {
    let document = found.document.clone();
    let failed = |reason| Ok(Step::Failed { document: document.clone(), reason });
    let path = found.file.clone();
    let loaded = match tokio::task::spawn_blocking(move || load(&path)).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(error)) => return failed(walk::reason(&error)),
        Err(error) => return failed(error.to_string()),
    };
    match store(client, &found, &loaded, patience).await {
        Err(error) if error.is_transient() => Err(error),
        Err(error) => failed(failure::reason(&error)),
        done => done,
    }
}

async fn store(client: &Client, found: &Found, loaded: &Loaded, patience: Patience) -> Result<Step> {
    let media = media_type(&found.file);
    if !is_stored(client, loaded, patience).await? {
        let name = found.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let upload = Upload {
            content_type: media.clone(),
            blake3: loaded.hash.clone(),
            ..Upload::private(name, loaded.source.clone())
        };
        let assets = client.assets();
        patience.run(|| assets.put(&upload)).await?;
    }
    let documents = client.documents();
    let put = patience.run(|| documents.put(&found.document, &loaded.hash, &media, loaded.size)).await?;
    if !put.changed && put.document.state() == DocumentState::Ready {
        return Ok(Step::Unchanged);
    }
    Ok(Step::Registered {
        id: put.document.id,
        document: found.document.clone(),
        version: put.document.version,
        bytes: loaded.size,
    })
}

/// Whether the mesh is known to have the bytes; small ones are not asked for.
async fn is_stored(client: &Client, loaded: &Loaded, patience: Patience) -> Result<bool> {
    if loaded.size < ASK_FIRST_BYTES {
        return Ok(false);
    }
    let assets = client.assets();
    match patience.run(|| assets.stat(&loaded.hash)).await {
        Ok(_) => Ok(true),
        Err(Error::Call(call)) if call.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn load(path: &Path) -> io::Result<Loaded> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut head = Vec::new();
    (&mut file).take(IN_MEMORY_BYTES).read_to_end(&mut head)?;
    hasher.update(&head);
    let rest = io::copy(&mut file, &mut hasher)?;
    let size = head.len() as u64 + rest;
    let source = if rest == 0 { Source::Bytes(Bytes::from(head)) } else { Source::File(path.to_owned()) };
    Ok(Loaded { source, hash: hasher.finalize().to_hex().to_string(), size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_hashed_whole_and_only_small_ones_are_held() {
        let folder = tempfile::tempdir().unwrap();
        for (size, held) in [(0, true), (IN_MEMORY_BYTES, true), (IN_MEMORY_BYTES + 1, false)] {
            let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let path = folder.path().join(size.to_string());
            std::fs::write(&path, &bytes).unwrap();
            let loaded = load(&path).unwrap();
            assert_eq!((loaded.size, loaded.hash), (size, blake3::hash(&bytes).to_hex().to_string()));
            assert_eq!(matches!(loaded.source, Source::Bytes(held) if held == bytes), held);
        }
    }
}
