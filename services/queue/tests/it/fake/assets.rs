//! As much of the assets service as workers call.

use std::pin::Pin;

use futures::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};
use weft_proto::assets::v1::{
    Asset, DeleteAssetRequest, DeleteAssetResponse, GetAssetRequest, GetAssetResponse, GetAssetUrlRequest,
    GetAssetUrlResponse, GetStatsRequest, GetStatsResponse, ListAssetsRequest, ListAssetsResponse,
    PurgeAssetsRequest, PurgeAssetsResponse, PutAssetRequest, PutAssetResponse, StatAssetRequest,
    StatAssetResponse, asset_service_server::AssetService, get_asset_response::Part,
};

use super::{Shared, uncalled};

#[tonic::async_trait]
impl AssetService for Shared {
    type GetAssetStream = Pin<Box<dyn Stream<Item = Result<GetAssetResponse, Status>> + Send>>;

    async fn get_asset(
        &self,
        request: Request<GetAssetRequest>,
    ) -> Result<Response<Self::GetAssetStream>, Status> {
        self.called("get_asset").await?;
        let id = request.into_inner().id;
        let bytes = self.lock().assets.get(&id).cloned().ok_or_else(|| Status::not_found("no such asset"))?;
        let asset = Part::Asset(Asset { id, size_bytes: bytes.len() as u64, ..Asset::default() });
        let mut parts = vec![asset];
        parts.extend(bytes.chunks(256 << 10).map(|data| Part::Data(data.to_vec().into())));
        let parts = parts.into_iter().map(|part| Ok(GetAssetResponse { part: Some(part) }));
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }

    uncalled! {
        put_asset: Streaming<PutAssetRequest> => PutAssetResponse;
        stat_asset: StatAssetRequest => StatAssetResponse;
        list_assets: ListAssetsRequest => ListAssetsResponse;
        delete_asset: DeleteAssetRequest => DeleteAssetResponse;
        get_asset_url: GetAssetUrlRequest => GetAssetUrlResponse;
        purge_assets: PurgeAssetsRequest => PurgeAssetsResponse;
        get_stats: GetStatsRequest => GetStatsResponse;
    }
}
