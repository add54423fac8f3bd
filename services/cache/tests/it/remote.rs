//! A running service seen as a store, so that the store's contract can be tested through gRPC.

use std::net::SocketAddr;

use bytes::Bytes;
use weft_cache::{
    key::Key,
    store::{Item, Lease, Lookup, Store, StoreError, Usage},
};
use weft_mesh::Channel;
use weft_proto::cache::v1::{self as proto, cache_service_client::CacheServiceClient, get_response};

pub(crate) struct RemoteStore(CacheServiceClient<Channel>);

impl RemoteStore {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self(CacheServiceClient::new(Channel::direct(address)))
    }

    pub(crate) fn client(&self) -> CacheServiceClient<Channel> {
        self.0.clone()
    }

    pub(crate) async fn stats(&self) -> proto::GetStatsResponse {
        self.client().get_stats(proto::GetStatsRequest {}).await.unwrap().into_inner()
    }
}

pub(crate) fn names(keys: &[Key]) -> Vec<String> {
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

pub(crate) fn set_request(item: &Item) -> proto::SetRequest {
    let ttl = item.ttl.try_into().ok();
    proto::SetRequest { key: item.key.as_str().to_owned(), value: item.value.clone(), ttl }
}

fn failed(status: tonic::Status) -> StoreError {
    StoreError::Unreachable(status.into())
}

impl Store for RemoteStore {
    async fn lookup(&self, key: &Key) -> Result<Lookup, StoreError> {
        let request = proto::GetRequest { key: key.as_str().to_owned() };
        let answer = self.client().get(request).await.map_err(failed)?.into_inner();
        match answer.result.expect("one of three") {
            get_response::Result::Hit(hit) => Ok(Lookup::Hit(hit.value)),
            get_response::Result::Miss(miss) if miss.lease.is_empty() => Err(StoreError::TimedOut),
            get_response::Result::Miss(miss) => Ok(Lookup::Leased(Lease(miss.lease[..].try_into().unwrap()))),
            get_response::Result::Wait(wait) => {
                assert!(wait.retry_after.is_some());
                Ok(Lookup::Held)
            }
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let request = proto::GetManyRequest { keys: names(keys) };
        let entries = self.client().get_many(request).await.map_err(failed)?.into_inner().entries;
        assert!(entries.iter().map(|entry| &entry.key).eq(&names(keys)));
        Ok(entries.into_iter().map(|entry| entry.value).collect())
    }

    async fn set(&self, items: &[Item]) -> Result<(), StoreError> {
        let request = proto::SetManyRequest { entries: items.iter().map(set_request).collect() };
        self.client().set_many(request).await.map(drop).map_err(failed)
    }

    async fn fill(&self, item: &Item, lease: Lease) -> Result<bool, StoreError> {
        let proto::SetRequest { key, value, ttl } = set_request(item);
        let request = proto::FillRequest { key, lease: lease.0.to_vec().into(), value, ttl };
        Ok(self.client().fill(request).await.map_err(failed)?.into_inner().stored)
    }

    async fn remove(&self, keys: &[Key]) -> Result<u32, StoreError> {
        let request = proto::DeleteRequest { keys: names(keys) };
        Ok(self.client().delete(request).await.map_err(failed)?.into_inner().deleted)
    }

    fn backend(&self) -> &'static str {
        "remote"
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn reachable(&self) -> bool {
        true
    }
}
