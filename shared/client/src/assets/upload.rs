//! One attempt at an upload.

use std::{path::Path, pin::pin};

use bytes::{Bytes, BytesMut};
use tokio::{fs::File, io::AsyncReadExt as _, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use weft_proto::assets::v1 as pb;

use super::{Source, Upload, Uploaded};
use crate::{Error, Result, Transport, error::present};

/// Large enough to be cheap, small enough to interleave with other calls of the connection.
const CHUNK: usize = 256 * 1024;
/// How many chunks may wait for the network: with the one being read, the memory that an upload takes.
const AHEAD: usize = 2;

type Parts = mpsc::Sender<pb::PutAssetRequest>;

/// Sends the bytes while it waits for the answer. Dropping it cancels the upload, which then stores nothing: the header
/// announces the size, so that what was cut off is refused.
pub(super) async fn once(
    mut raw: pb::asset_service_client::AssetServiceClient<Transport>,
    upload: &Upload,
) -> Result<Uploaded> {
    let (file, size_bytes) = match &upload.source {
        Source::Bytes(bytes) => (None, bytes.len() as u64),
        Source::File(path) => {
            let file = File::open(path).await.map_err(|source| unreadable(path, source))?;
            let size = file.metadata().await.map_err(|source| unreadable(path, source))?.len();
            (Some((file, path.as_path())), size)
        }
    };
    let header = pb::AssetHeader {
        name: upload.name.clone(),
        content_type: upload.content_type.clone(),
        visibility: upload.visibility.into(),
        tags: upload.tags.clone(),
        size_bytes: Some(size_bytes),
        blake3: upload.blake3.clone(),
    };
    let (parts, received) = mpsc::channel(AHEAD);
    let mut sending = pin!(send(parts, header, file, &upload.source));
    let mut answer = pin!(raw.put_asset(ReceiverStream::new(received)));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        sent = &mut sending => {
            sent?;
            answer.await
        }
    };
    let answer = answer?.into_inner();
    Ok(Uploaded { asset: present(answer.asset, "asset")?, existed: answer.existed })
}

/// Sends all parts, or as many as the other side wants: an upload it refuses early is answered early.
async fn send(
    parts: Parts,
    header: pb::AssetHeader,
    file: Option<(File, &Path)>,
    source: &Source,
) -> Result<()> {
    use pb::put_asset_request::Part;
    if !give(&parts, Part::Header(header)).await {
        return Ok(());
    }
    if let Source::Bytes(bytes) = source {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(CHUNK.min(rest.len()));
            if !give(&parts, Part::Data(chunk)).await {
                break;
            }
        }
    }
    if let Some((mut file, path)) = file {
        while let Some(chunk) = read(&mut file).await.map_err(|source| unreadable(path, source))? {
            if !give(&parts, Part::Data(chunk)).await {
                break;
            }
        }
    }
    Ok(())
}

async fn give(parts: &Parts, part: pb::put_asset_request::Part) -> bool {
    parts.send(pb::PutAssetRequest { part: Some(part) }).await.is_ok()
}

async fn read(file: &mut File) -> std::io::Result<Option<Bytes>> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    while chunk.len() < CHUNK {
        if file.read_buf(&mut chunk).await? == 0 {
            break;
        }
    }
    Ok((!chunk.is_empty()).then(|| chunk.freeze()))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}
