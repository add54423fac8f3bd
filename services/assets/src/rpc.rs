//! The gRPC face: decode, call the catalog, encode.

use std::{pin::Pin, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_mesh::{context, error::status};
use weft_proto::assets::v1::{
    self as pb, asset_service_server::AssetService, get_asset_response, put_asset_request,
};

mod convert;
mod header;

use crate::{
    catalog::{Catalog, Target},
    config::Config,
    error::Error,
    http::path,
    optimize::Kind,
    upload::Upload,
};

/// Largest message of a download.
const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// Page sizes.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: i32 = 1000;

/// Answers the calls.
#[derive(Debug, Clone)]
pub struct AssetsRpc {
    catalog: Catalog,
    public_base_url: String,
    upload_idle_timeout: Duration,
    stopping: CancellationToken,
}

impl AssetsRpc {
    /// Answers from `catalog`, as `config` says, until `stopping`.
    #[must_use]
    pub fn new(catalog: Catalog, config: &Config, stopping: CancellationToken) -> Self {
        let public_base_url = config.public_base_url.trim_end_matches('/').to_owned();
        Self { catalog, public_base_url, upload_idle_timeout: config.upload_idle_timeout, stopping }
    }

    /// The next message of an upload. Only waiting for the client counts as idle, not what is done with the bytes.
    async fn next(
        &self,
        parts: &mut Streaming<pb::PutAssetRequest>,
    ) -> Result<Option<pb::PutAssetRequest>, Error> {
        let limit = self.upload_idle_timeout;
        let next = tokio::time::timeout(limit, parts.message()).await;
        next.map_err(|_| Error::Idle { limit })?.map_err(|_| Error::BrokenOff)
    }

    /// Receives an upload's bytes and checks them against what was announced.
    async fn receive(
        &self,
        parts: &mut Streaming<pb::PutAssetRequest>,
        header: &pb::AssetHeader,
    ) -> Result<crate::upload::Received, Error> {
        let limit = self.catalog.max_asset_bytes();
        header::check_announced(header, limit)?;
        let mut upload = Upload::new(self.catalog.spool().to_owned(), limit);
        loop {
            match self.next(parts).await? {
                Some(pb::PutAssetRequest { part: Some(put_asset_request::Part::Data(data)) }) => {
                    upload.push(&data).await?;
                }
                Some(pb::PutAssetRequest { part: Some(put_asset_request::Part::Header(_)) }) => {
                    return Err(Error::invalid("header", "sent twice"));
                }
                Some(pb::PutAssetRequest { part: None }) => return Err(Error::invalid("part", "not set")),
                None => break,
            }
        }
        // hyper shows a reset by the client as the end of the body, and drops this call when it is polled next: it must
        // not get as far as to store what was cut off.
        tokio::task::yield_now().await;
        let received = upload.finish().await?;
        header::check_received(header, &received)?;
        Ok(received)
    }

    async fn put(&self, mut parts: Streaming<pb::PutAssetRequest>) -> Result<pb::PutAssetResponse, Error> {
        let first = self.next(&mut parts).await?;
        let Some(pb::PutAssetRequest { part: Some(put_asset_request::Part::Header(header)) }) = first else {
            return Err(Error::invalid("header", "must be the first message"));
        };
        let asset = header::decode(&header, user())?;
        let received = self.receive(&mut parts, &header).await?;
        let (asset, existed) = self.catalog.put(asset, received).await?;
        Ok(pb::PutAssetResponse { asset: Some(convert::asset(asset)), existed })
    }

    /// Ends a download when the service does.
    fn until_stopping(&self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let stopping = self.stopping.clone();
        stream::once(async move {
            stopping.cancelled().await;
            Err(Error::Stopping)
        })
    }
}

type Download = Pin<Box<dyn Stream<Item = Result<pb::GetAssetResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AssetService for AssetsRpc {
    type GetAssetStream = Download;

    async fn put_asset(
        &self,
        request: Request<Streaming<pb::PutAssetRequest>>,
    ) -> Result<Response<pb::PutAssetResponse>, Status> {
        Box::pin(self.put(request.into_inner())).await.map(Response::new).map_err(status)
    }

    async fn get_asset(&self, request: Request<pb::GetAssetRequest>) -> Result<Response<Download>, Status> {
        let id = header::id(request.into_inner().id).map_err(status)?;
        let (asset, bytes) = self.catalog.get(&user(), &id).await.map_err(status)?;
        let part = get_asset_response::Part::Asset(convert::asset(asset));
        let first = stream::once(async { Ok(pb::GetAssetResponse { part: Some(part) }) });
        let whole = bytes.map_err(Error::Storage).map(Some).chain(stream::once(async { None }));
        let pieces = stream::select(whole, self.until_stopping().map(Some))
            .take_while(|piece| std::future::ready(piece.is_some()))
            .filter_map(std::future::ready)
            .map_ok(|chunk| stream::iter(convert::pieces(chunk, MAX_CHUNK_BYTES).map(Ok::<_, Error>)))
            .try_flatten()
            .map_ok(|data| pb::GetAssetResponse { part: Some(get_asset_response::Part::Data(data)) })
            .map_err(status);
        Ok(Response::new(Box::pin(first.chain(pieces))))
    }

    async fn stat_asset(
        &self,
        request: Request<pb::StatAssetRequest>,
    ) -> Result<Response<pb::StatAssetResponse>, Status> {
        let id = header::id(request.into_inner().id).map_err(status)?;
        let asset = self.catalog.stat(&user(), &id).await.map_err(status)?;
        Ok(Response::new(pb::StatAssetResponse { asset: Some(convert::asset(asset)) }))
    }

    async fn list_assets(
        &self,
        request: Request<pb::ListAssetsRequest>,
    ) -> Result<Response<pb::ListAssetsResponse>, Status> {
        let request = request.into_inner();
        let size = match request.page_size {
            0 => DEFAULT_PAGE,
            size @ 1..=MAX_PAGE => size.unsigned_abs() as usize,
            size => {
                let problem = format!("must be 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}, is {size}");
                return Err(status(Error::invalid("page_size", problem)));
            }
        };
        let page = self.catalog.list(&user(), &request.page_token, size).await.map_err(status)?;
        let assets = page.assets.into_iter().map(convert::asset).collect();
        Ok(Response::new(pb::ListAssetsResponse { assets, next_page_token: page.next }))
    }

    async fn delete_asset(
        &self,
        request: Request<pb::DeleteAssetRequest>,
    ) -> Result<Response<pb::DeleteAssetResponse>, Status> {
        let id = header::id(request.into_inner().id).map_err(status)?;
        self.catalog.delete(&user(), &id).await.map_err(status)?;
        Ok(Response::new(pb::DeleteAssetResponse {}))
    }

    async fn get_asset_url(
        &self,
        request: Request<pb::GetAssetUrlRequest>,
    ) -> Result<Response<pb::GetAssetUrlResponse>, Status> {
        let id = header::id(request.into_inner().id).map_err(status)?;
        let record = self.catalog.stat(&user(), &id).await.map_err(status)?.record;
        if record.visibility != crate::catalog::Visibility::Public {
            return Err(status(Error::Private { id }));
        }
        let base = &self.public_base_url;
        Ok(Response::new(pb::GetAssetUrlResponse {
            url: format!("{base}{}", path::by_hash(&record.id, &record.name)),
            stable_url: format!("{base}{}", path::by_name(&record.owner, &record.name)),
        }))
    }

    async fn purge_assets(
        &self,
        request: Request<pb::PurgeAssetsRequest>,
    ) -> Result<Response<pb::PurgeAssetsResponse>, Status> {
        let target = match request.into_inner().target {
            Some(pb::purge_assets_request::Target::Tag(tag)) if !tag.is_empty() => Target::Tag(tag),
            Some(pb::purge_assets_request::Target::Name(name)) if !name.is_empty() => Target::Name(name),
            _ => return Err(status(Error::invalid("target", "needs a tag or a name"))),
        };
        let purged = self.catalog.purge(&user(), &target).await.map_err(status)?;
        Ok(Response::new(pb::PurgeAssetsResponse { purged }))
    }

    async fn get_stats(
        &self,
        _request: Request<pb::GetStatsRequest>,
    ) -> Result<Response<pb::GetStatsResponse>, Status> {
        let totals = self.catalog.metrics().totals();
        let load = self.catalog.pool().load();
        Ok(Response::new(pb::GetStatsResponse {
            backend: self.catalog.storage().backend().as_str().to_owned(),
            puts: totals.puts.load(Relaxed),
            put_bytes: totals.put_bytes.load(Relaxed),
            http_requests: totals.http_requests.load(Relaxed),
            http_not_modified: totals.http_not_modified.load(Relaxed),
            http_bytes: totals.http_bytes.load(Relaxed),
            memory_hits: totals.memory_hits.load(Relaxed),
            optimizers: Kind::ALL
                .iter()
                .map(|kind| convert::optimizer(*kind, totals.optimizer(*kind)))
                .collect(),
            optimizing: load.jobs as u64,
            oldest_wait: prost_types::Duration::try_from(load.oldest_wait).ok(),
            store_errors: totals.store_errors.load(Relaxed),
            pid: std::process::id(),
        }))
    }
}

/// Who is calling, and so whose assets these are.
fn user() -> String {
    context::current().caller.user
}
