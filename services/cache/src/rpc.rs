//! `weft.cache.v1.CacheService`: decode, call, encode.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::cache::v1 as proto;

use crate::{
    entries::{Answer, Entries},
    key::Pattern,
    metrics::Event,
    store::Store,
};

mod decode;

pub(crate) use decode::Limits;

/// Values of one GetMany answer, in bytes: with their keys they fit in the 4 MiB that clients accept by default.
const MAX_ANSWER_BYTES: usize = 3 * 1024 * 1024;

/// The service over one store.
pub(crate) struct Rpc<S> {
    entries: Arc<Entries<S>>,
    limits: Limits,
}

impl<S: Store> Rpc<S> {
    /// Serves these entries within these limits.
    pub(crate) fn new(entries: Arc<Entries<S>>, limits: Limits) -> Self {
        Self { entries, limits }
    }

    fn pattern_stats(&self, pattern: Pattern) -> proto::PatternStats {
        let total = |event| self.entries.counters().total(pattern, event);
        proto::PatternStats {
            pattern: pattern.name().to_owned(),
            hits: total(Event::Hit),
            misses: total(Event::Miss),
            waits: total(Event::Wait),
            stores: total(Event::Store),
            refused_fills: total(Event::RefusedFill),
            invalidations: total(Event::Invalidation),
        }
    }
}

#[tonic::async_trait]
impl<S: Store> proto::cache_service_server::CacheService for Rpc<S> {
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        let key = decode::key(&request.into_inner().key).map_err(status)?;
        let result = match self.entries.get(&key).await {
            Answer::Hit(value) => proto::get_response::Result::Hit(proto::Hit { value }),
            Answer::Miss(lease) => {
                let lease = lease.map(|lease| lease.0.to_vec().into()).unwrap_or_default();
                proto::get_response::Result::Miss(proto::Miss { lease })
            }
            Answer::Wait(after) => {
                proto::get_response::Result::Wait(proto::Wait { retry_after: after.try_into().ok() })
            }
        };
        Ok(Response::new(proto::GetResponse { result: Some(result) }))
    }

    async fn get_many(
        &self,
        request: Request<proto::GetManyRequest>,
    ) -> Result<Response<proto::GetManyResponse>, Status> {
        let names = request.into_inner().keys;
        let keys = decode::keys(&names).map_err(status)?;
        let values = self.entries.get_many(&keys, MAX_ANSWER_BYTES).await;
        let entry = |(key, value)| proto::Entry { key, value };
        Ok(Response::new(proto::GetManyResponse {
            entries: names.into_iter().zip(values).map(entry).collect(),
        }))
    }

    async fn set(&self, request: Request<proto::SetRequest>) -> Result<Response<proto::SetResponse>, Status> {
        let item = self.limits.item(request.into_inner()).map_err(status)?;
        self.entries.set(vec![item]).await.map_err(status)?;
        Ok(Response::new(proto::SetResponse {}))
    }

    async fn set_many(
        &self,
        request: Request<proto::SetManyRequest>,
    ) -> Result<Response<proto::SetManyResponse>, Status> {
        let items = self.limits.items(request.into_inner().entries).map_err(status)?;
        self.entries.set(items).await.map_err(status)?;
        Ok(Response::new(proto::SetManyResponse {}))
    }

    async fn fill(
        &self,
        request: Request<proto::FillRequest>,
    ) -> Result<Response<proto::FillResponse>, Status> {
        let (item, lease) = self.limits.fill(request.into_inner()).map_err(status)?;
        let stored = self.entries.fill(item, lease).await.map_err(status)?;
        Ok(Response::new(proto::FillResponse { stored }))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Result<Response<proto::DeleteResponse>, Status> {
        let keys = decode::keys(&request.into_inner().keys).map_err(status)?;
        let deleted = self.entries.remove(&keys).await.map_err(status)?;
        Ok(Response::new(proto::DeleteResponse { deleted }))
    }

    async fn invalidate(
        &self,
        request: Request<proto::InvalidateRequest>,
    ) -> Result<Response<proto::InvalidateResponse>, Status> {
        let keys = decode::group(&request.into_inner()).map_err(status)?;
        self.entries.remove(&keys).await.map_err(status)?;
        let keys = keys.iter().map(|key| key.as_str().to_owned()).collect();
        Ok(Response::new(proto::InvalidateResponse { keys }))
    }

    async fn get_stats(
        &self,
        _request: Request<proto::GetStatsRequest>,
    ) -> Result<Response<proto::GetStatsResponse>, Status> {
        let (store, usage) = (self.entries.store(), self.entries.store().usage());
        Ok(Response::new(proto::GetStatsResponse {
            backend: store.backend().to_owned(),
            patterns: Pattern::ALL.map(|pattern| self.pattern_stats(pattern)).to_vec(),
            entries: usage.entries,
            entry_bytes: usage.bytes,
            store_errors: self.entries.counters().store_errors(),
            store_reachable: store.reachable(),
            pid: std::process::id(),
        }))
    }
}
