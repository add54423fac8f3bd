//! `weft asset get`: a file that is whole or not there.

use std::{ffi::OsString, path::Path};

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use tokio::{fs, io::AsyncWriteExt as _};
use weft_client::Assets;

/// Downloads into a file beside `output`, and moves it there when it is whole. Says how many bytes it has.
pub(super) async fn run(assets: &Assets, id: &str, output: &Path) -> anyhow::Result<u64> {
    let download = assets.get(id).await?;
    let mut name = OsString::from(".");
    name.push(output.file_name().with_context(|| format!("{} is not a file name", output.display()))?);
    name.push(format!(".{}.part", std::process::id()));
    let partial = output.with_file_name(name);
    let written =
        write(&partial, download).await.with_context(|| format!("cannot write {}", output.display()));
    let moved = match written {
        Ok(size) => fs::rename(&partial, output).await.map(|()| size).map_err(Into::into),
        Err(error) => Err(error),
    };
    if moved.is_err() {
        let _ = fs::remove_file(&partial).await;
    }
    moved
}

async fn write(partial: &Path, mut download: weft_client::Download) -> anyhow::Result<u64> {
    let mut file = fs::File::create(partial).await?;
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    while let Some(bytes) = download.bytes.try_next().await? {
        hasher.update(&bytes);
        file.write_all(&bytes).await?;
        size += bytes.len() as u64;
    }
    file.sync_all().await?;
    let whole = size == download.asset.size_bytes && hasher.finalize().to_hex().as_str() == download.asset.id;
    ensure!(whole, "the bytes that came are not those of asset {}", download.asset.id);
    Ok(size)
}
