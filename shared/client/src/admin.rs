//! The gateway's own service, on its admin port; for operators.

use std::time::Duration;

use prost::Message;
use weft_proto::{assets, cache, database, gateway::v1 as pb, queue};

use crate::{Options, Result, Transport, client, error::present};

/// The gateway, as an operator sees it.
#[derive(Clone, Debug)]
pub struct Admin {
    raw: pb::gateway_service_client::GatewayServiceClient<Transport>,
}

/// What the gateway says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayStats {
    /// How long it has been up.
    pub uptime: Duration,
    /// Connections from clients that are open now.
    pub client_connections: u64,
    /// Calls forwarded since the start.
    pub calls: u64,
    /// Calls in flight now.
    pub in_flight: u64,
}

/// One replica behind the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// The pool it is in.
    pub pool: String,
    /// As the gateway sees it.
    pub backend: pb::Backend,
    /// What it said of itself, or why it said nothing.
    pub stats: std::result::Result<ServiceStats, String>,
    /// How long its answer took.
    pub elapsed: Duration,
}

/// What a replica of a service says of itself.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceStats {
    /// A cache.
    Cache(cache::v1::GetStatsResponse),
    /// A database.
    Database(database::v1::GetStatsResponse),
    /// A queue.
    Queue(queue::v1::GetStatsResponse),
    /// An asset store.
    Assets(assets::v1::GetStatsResponse),
    /// A message that this client does not know, by its full name.
    Other(String),
}

impl Admin {
    /// Calls the admin port of a gateway, such as `http://127.0.0.1:7090`.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect(address: &str, user: &str) -> Result<Self> {
        Self::connect_with(address, user, Options::default()).await
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`Client::connect`](crate::Client::connect).
    pub async fn connect_with(address: &str, user: &str, options: Options) -> Result<Self> {
        let transport = client::open(address, user, options).await?;
        Ok(Self { raw: pb::gateway_service_client::GatewayServiceClient::new(transport) })
    }

    /// The gateway, and every replica behind it, by pool and address.
    ///
    /// # Errors
    /// Those of any call. A replica that does not answer is no error: it is reported with its own.
    pub async fn stats(&self) -> Result<(GatewayStats, Vec<Replica>)> {
        let answer = self.raw.clone().get_stats(pb::GetStatsRequest::default()).await?.into_inner();
        let gateway = GatewayStats {
            uptime: duration(answer.uptime),
            client_connections: answer.client_connections,
            calls: answer.calls,
            in_flight: answer.in_flight,
        };
        let replicas: Result<_> = answer.replicas.into_iter().map(replica).collect();
        Ok((gateway, replicas?))
    }

    /// Every pool with its backends, by name.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn pools(&self) -> Result<Vec<pb::Pool>> {
        Ok(self.raw.clone().list_pools(pb::ListPoolsRequest {}).await?.into_inner().pools)
    }

    /// The last picks of a pool, newest first, at most `limit`; 0 means 20.
    ///
    /// # Errors
    /// Those of any call: an unknown pool.
    pub async fn picks(&self, pool: &str, limit: u32) -> Result<Vec<pb::Pick>> {
        let request = pb::ExplainPickRequest { pool: pool.into(), limit };
        Ok(self.raw.clone().explain_pick(request).await?.into_inner().picks)
    }

    /// Adds a backend, `host:port`, to a pool. It takes calls after its first passing check.
    ///
    /// # Errors
    /// Those of any call: an unknown pool, an address that is none or is there already, a weight that is not 1 to 1000.
    pub async fn add_backend(&self, pool: &str, address: &str, weight: u32) -> Result<pb::Backend> {
        let request = pb::AddBackendRequest { pool: pool.into(), address: address.into(), weight };
        present(self.raw.clone().add_backend(request).await?.into_inner().backend, "backend")
    }

    /// Removes a backend from a pool at once; calls in flight to it run to their end.
    ///
    /// # Errors
    /// Those of any call: an unknown pool or backend.
    pub async fn remove_backend(&self, pool: &str, address: &str) -> Result<()> {
        let request = pb::RemoveBackendRequest { pool: pool.into(), address: address.into() };
        self.raw.clone().remove_backend(request).await?;
        Ok(())
    }

    /// Sets a backend's weight, 1 to 1000, from the next call on.
    ///
    /// # Errors
    /// Those of any call: an unknown pool or backend, a weight out of range.
    pub async fn set_weight(&self, pool: &str, address: &str, weight: u32) -> Result<pb::Backend> {
        let request = pb::SetBackendWeightRequest { pool: pool.into(), address: address.into(), weight };
        present(self.raw.clone().set_backend_weight(request).await?.into_inner().backend, "backend")
    }

    /// Gives a backend no more new calls; those in flight to it run to their end.
    ///
    /// # Errors
    /// Those of any call: an unknown pool or backend.
    pub async fn drain(&self, pool: &str, address: &str) -> Result<pb::Backend> {
        let request = pb::DrainBackendRequest { pool: pool.into(), address: address.into() };
        present(self.raw.clone().drain_backend(request).await?.into_inner().backend, "backend")
    }

    /// Gives a drained backend calls again, if it is healthy.
    ///
    /// # Errors
    /// Those of any call: an unknown pool or backend.
    pub async fn undrain(&self, pool: &str, address: &str) -> Result<pb::Backend> {
        let request = pb::UndrainBackendRequest { pool: pool.into(), address: address.into() };
        present(self.raw.clone().undrain_backend(request).await?.into_inner().backend, "backend")
    }
}

fn replica(replica: pb::ReplicaStats) -> Result<Replica> {
    use pb::replica_stats::Result as Outcome;
    let stats = match replica.result {
        Some(Outcome::Stats(stats)) => decode(&stats.type_url, &stats.value),
        Some(Outcome::Error(error)) => Err(error),
        None => Err("has not been asked".to_owned()),
    };
    let backend = present(replica.backend, "backend")?;
    Ok(Replica { pool: replica.pool, backend, stats, elapsed: duration(replica.elapsed) })
}

fn decode(type_url: &str, value: &[u8]) -> std::result::Result<ServiceStats, String> {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    let stats = match name {
        "weft.cache.v1.GetStatsResponse" => Message::decode(value).map(ServiceStats::Cache),
        "weft.database.v1.GetStatsResponse" => Message::decode(value).map(ServiceStats::Database),
        "weft.queue.v1.GetStatsResponse" => Message::decode(value).map(ServiceStats::Queue),
        "weft.assets.v1.GetStatsResponse" => Message::decode(value).map(ServiceStats::Assets),
        other => Ok(ServiceStats::Other(other.to_owned())),
    };
    stats.map_err(|error| format!("its {name} cannot be read: {error}"))
}

/// A length of time off the wire; negative ones count as none.
fn duration(wire: Option<prost_types::Duration>) -> Duration {
    wire.and_then(|wire| wire.try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_told_apart_by_their_type() {
        let sent = cache::v1::GetStatsResponse { backend: "memory".into(), ..Default::default() };
        let url = weft_proto::type_url("weft.cache.v1.GetStatsResponse");
        assert_eq!(decode(&url, &sent.encode_to_vec()), Ok(ServiceStats::Cache(sent)));
        let other = weft_proto::type_url("acme.v1.Stats");
        assert_eq!(decode(&other, b"anything"), Ok(ServiceStats::Other("acme.v1.Stats".into())));
        assert!(decode(&url, b"\xff").unwrap_err().contains("weft.cache.v1.GetStatsResponse cannot be read"));
    }
}
