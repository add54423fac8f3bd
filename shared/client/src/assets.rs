//! The user's assets: bytes up and down as streams, in bounded memory.

mod upload;

use std::{future::ready, path::PathBuf};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use tonic::Code;
use weft_proto::assets::v1 as pb;

use crate::{Backoff, Error, Result, Transport, error::present, pages, retry::retry_after};

/// Pages as large as they may be: fewer round trips.
const PAGE: i32 = 1000;

/// The user's assets.
#[derive(Clone, Debug)]
pub struct Assets {
    raw: pb::asset_service_client::AssetServiceClient<Transport>,
}

/// Where the bytes of an upload come from. They are read again when the upload is repeated.
#[derive(Clone, Debug)]
pub enum Source {
    /// Memory.
    Bytes(Bytes),
    /// A file, read as it is sent.
    File(PathBuf),
}

/// What is uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    /// File name, 1 to 255 bytes.
    pub name: String,
    /// Media type; guessed from the name when empty.
    pub content_type: String,
    /// Who may read it.
    pub visibility: pb::Visibility,
    /// Surrogate keys for purging.
    pub tags: Vec<String>,
    /// BLAKE3 hash of the bytes as hex, to be checked; empty when not known.
    pub blake3: String,
    /// The bytes.
    pub source: Source,
}

/// What an upload came to.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// As stored.
    pub asset: pb::Asset,
    /// True when the user had these bytes already.
    pub existed: bool,
}

/// A download that has begun.
pub struct Download {
    /// What is being downloaded.
    pub asset: pb::Asset,
    /// Its bytes, in order.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl Upload {
    /// A private upload of a name and bytes, with everything else left to the mesh.
    #[must_use]
    pub fn private(name: impl Into<String>, source: Source) -> Self {
        Self {
            name: name.into(),
            content_type: String::new(),
            visibility: pb::Visibility::Private,
            tags: Vec::new(),
            blake3: String::new(),
            source,
        }
    }

    /// The same, public.
    #[must_use]
    pub fn public(name: impl Into<String>, source: Source) -> Self {
        Self { visibility: pb::Visibility::Public, ..Self::private(name, source) }
    }
}

impl Assets {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { raw: pb::asset_service_client::AssetServiceClient::new(transport) }
    }

    /// Uploads bytes. When the mesh cannot take them right now, the whole upload is repeated once: equal bytes are one
    /// asset, so it cannot be stored twice.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be read; INVALID_ARGUMENT when the bytes are not what they are said to be.
    pub async fn put(&self, upload: &Upload) -> Result<Uploaded> {
        match upload::once(self.raw.clone(), upload).await {
            Err(error) if is_unavailable(&error) => {
                Backoff::default().pause(0, retry_after(&error)).await;
                upload::once(self.raw.clone(), upload).await
            }
            done => done,
        }
    }

    /// Downloads an asset's original bytes. The first message is awaited: an unknown asset fails here.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn get(&self, id: &str) -> Result<Download> {
        use pb::get_asset_response::Part;
        let mut raw = self.raw.clone();
        let mut stream = raw.get_asset(pb::GetAssetRequest { id: id.to_owned() }).await?.into_inner();
        let first = present(stream.message().await?, "part")?;
        let Some(Part::Asset(asset)) = first.part else { return Err(Error::Malformed { field: "asset" }) };
        let bytes = stream.map_err(Error::from).and_then(|message| {
            ready(match message.part {
                Some(Part::Data(data)) => Ok(data),
                _ => Err(Error::Malformed { field: "data" }),
            })
        });
        Ok(Download { asset, bytes: bytes.boxed() })
    }

    /// Describes an asset and its variants.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub async fn stat(&self, id: &str) -> Result<pb::Asset> {
        let answer = self.raw.clone().stat_asset(pb::StatAssetRequest { id: id.to_owned() }).await?;
        present(answer.into_inner().asset, "asset")
    }

    /// All assets by id.
    #[must_use]
    pub fn list(&self) -> BoxStream<'static, Result<pb::Asset>> {
        let raw = self.raw.clone();
        pages::all(move |page_token| {
            let mut raw = raw.clone();
            async move {
                let request = pb::ListAssetsRequest { page_size: PAGE, page_token };
                let page = raw.list_assets(request).await?.into_inner();
                Ok((page.assets, page.next_page_token))
            }
        })
    }

    /// Deletes an asset with its variants. Idempotent.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.raw.clone().delete_asset(pb::DeleteAssetRequest { id: id.to_owned() }).await?;
        Ok(())
    }

    /// The URLs of a public asset, relative to the gateway unless a base URL is configured.
    ///
    /// # Errors
    /// NOT_FOUND, and FAILED_PRECONDITION for a private one.
    pub async fn urls(&self, id: &str) -> Result<pb::GetAssetUrlResponse> {
        Ok(self.raw.clone().get_asset_url(pb::GetAssetUrlRequest { id: id.to_owned() }).await?.into_inner())
    }
}

fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Call(call) if call.code == Code::Unavailable)
}
