//! An asset service that takes or refuses uploads by script.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use weft_proto::assets::v1::{
    self as pb,
    asset_service_server::{AssetService, AssetServiceServer},
    get_asset_response, put_asset_request,
};

use crate::server::{Server, unused};

/// What becomes of an upload.
pub(crate) enum Verdict {
    Take,
    /// After all of it was read.
    Refuse(Status),
    /// Before any byte was.
    RefuseAtHeader(Status),
}

/// What was received of an upload.
#[derive(Clone, Default)]
pub(crate) struct Attempt {
    pub(crate) header: pb::AssetHeader,
    pub(crate) data: Vec<u8>,
    pub(crate) largest: usize,
}

#[derive(Default)]
struct Log {
    verdicts: Mutex<VecDeque<Verdict>>,
    attempts: Mutex<Vec<Attempt>>,
}

/// The running service.
pub(crate) struct Store {
    pub(crate) server: Server,
    log: Arc<Log>,
}

impl Store {
    pub(crate) fn start(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        let log = Arc::new(Log { verdicts: Mutex::new(verdicts.into_iter().collect()), ..Log::default() });
        let service = AssetServiceServer::new(Service { log: Arc::clone(&log) });
        let server = Server::start(|_| Routes::new(service));
        Self { server, log }
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.log.attempts.lock().unwrap().clone()
    }
}

struct Service {
    log: Arc<Log>,
}

#[tonic::async_trait]
impl AssetService for Service {
    type GetAssetStream = BoxStream<'static, Result<pb::GetAssetResponse, Status>>;

    async fn put_asset(
        &self,
        request: Request<Streaming<pb::PutAssetRequest>>,
    ) -> Result<Response<pb::PutAssetResponse>, Status> {
        let mut parts = request.into_inner();
        let verdict = self.log.verdicts.lock().unwrap().pop_front().unwrap_or(Verdict::Take);
        let mut attempt = Attempt::default();
        let mut outcome = Ok(());
        while let Some(part) = parts.message().await? {
            match part.part.unwrap() {
                put_asset_request::Part::Header(header) => attempt.header = header,
                put_asset_request::Part::Data(data) => {
                    attempt.largest = attempt.largest.max(data.len());
                    attempt.data.extend_from_slice(&data);
                }
            }
            if let Verdict::RefuseAtHeader(status) = &verdict {
                outcome = Err(status.clone());
                break;
            }
        }
        if let Verdict::Refuse(status) = verdict {
            outcome = Err(status);
        }
        self.log.attempts.lock().unwrap().push(attempt);
        outcome.map(|()| {
            Response::new(pb::PutAssetResponse { asset: Some(pb::Asset::default()), existed: false })
        })
    }

    async fn get_asset(
        &self,
        request: Request<pb::GetAssetRequest>,
    ) -> Result<Response<Self::GetAssetStream>, Status> {
        use get_asset_response::Part;
        let id = request.into_inner().id;
        if id == "unknown" {
            return Err(Status::not_found("no such asset"));
        }
        let asset = pb::Asset { name: format!("{id}.txt"), ..Default::default() };
        let parts = [Part::Asset(asset), Part::Data("hello ".into()), Part::Data("world".into())];
        let parts = stream::iter(parts.map(|part| Ok(pb::GetAssetResponse { part: Some(part) })));
        let rest = async move {
            if id == "endless" {
                std::future::pending::<()>().await;
            }
            None
        };
        Ok(Response::new(parts.chain(stream::once(rest).filter_map(std::future::ready)).boxed()))
    }

    unused! {
        stat_asset: StatAssetRequest -> StatAssetResponse;
        list_assets: ListAssetsRequest -> ListAssetsResponse;
        delete_asset: DeleteAssetRequest -> DeleteAssetResponse;
        get_asset_url: GetAssetUrlRequest -> GetAssetUrlResponse;
        purge_assets: PurgeAssetsRequest -> PurgeAssetsResponse;
        get_stats: GetStatsRequest -> GetStatsResponse;
    }
}
