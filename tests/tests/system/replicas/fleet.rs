//! The processes: gateway, databases, caches; one of the databases behind a proxy that can slow it down.

use std::{collections::HashMap, net::SocketAddr, process::Stdio};

use serde_json::Value;
use tempfile::TempDir;
use weft_client::ServiceStats;
use weft_testkit::{FaultProxy, Servers, eventually_ok};

use crate::{
    process::{LIMIT, weft},
    services::{Gateway, Replica, peer, pool},
};

pub(super) struct Fleet {
    pub(super) gateway: Gateway,
    /// The id of a chat, to be read.
    pub(super) chat: String,
    pub(super) databases: Vec<Replica>,
    pub(super) caches: Vec<Replica>,
    /// Before the last of the databases.
    pub(super) slow: FaultProxy,
    _folder: TempDir,
    _servers: Servers,
}

impl Fleet {
    pub(super) async fn start() -> Self {
        let servers = Servers::start().await.unwrap();
        let all: toml::Table = servers.config().parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let three = |name: &str, more: &str| -> Vec<_> {
            let more = more.to_owned() + &toml::to_string(&all[name]).unwrap();
            (0..3).map(|index| Replica::start(name, folder.path(), index, &more)).collect()
        };
        let caches = three("cache", "");
        let cache_addresses = addresses(&caches);
        let databases = three("database", &peer("cache", &cache_addresses));
        let slow = FaultProxy::start(databases[2].address).await.unwrap();
        let mut database_addresses = addresses(&databases);
        database_addresses[2] = slow.address();

        let pools = pool("cache", "CacheService", &cache_addresses)
            + &pool("database", "InsightService", &database_addresses);
        let gateway = Gateway::start(folder.path(), &pools).await;
        let create = || async { gateway.client.chats().create("spread", "", "one").await };
        let chat = eventually_ok(LIMIT, create).await.id;
        Self { gateway, chat, databases, caches, slow, _folder: folder, _servers: servers }
    }

    /// The calls that the gateway has given to each database, by address.
    pub(super) async fn database_calls(&self) -> HashMap<String, u64> {
        let databases = self.gateway.backends("database").await;
        databases.into_iter().map(|backend| (backend.address, backend.calls)).collect()
    }

    /// The reads of chats that each cache says it has had, by address; of those that say anything.
    pub(super) async fn cache_reads(&self) -> HashMap<String, u64> {
        let (_, replicas) = self.gateway.admin.stats().await.unwrap();
        let caches = replicas.into_iter().filter_map(|replica| match replica.stats {
            Ok(ServiceStats::Cache(stats)) => Some((replica.backend.address, stats)),
            _ => None,
        });
        let reads = caches.map(|(address, stats)| {
            let chat = stats.patterns.into_iter().find(|pattern| pattern.pattern == "chat");
            (address, chat.map_or(0, |chat| chat.hits + chat.misses + chat.waits))
        });
        reads.collect()
    }

    /// `weft status --json`.
    pub(super) async fn status(&self) -> Value {
        let mut command = weft();
        command.args(["--admin", &self.gateway.admin_address, "status", "--json"]).stderr(Stdio::inherit());
        let output = command.output().await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn addresses(replicas: &[Replica]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.address).collect()
}
