//! The processes: gateway, databases, caches; one of the databases behind a proxy that can slow it down.

use std::{collections::HashMap, fs, net::SocketAddr, path::Path, process::Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;
use weft_client::{Admin, Client, ServiceStats};
use weft_proto::gateway::v1::Health;
use weft_testkit::{FaultProxy, Servers, eventually_ok, free_port};

use crate::process::{LIMIT, serve, weft};

pub(super) struct Replica {
    pub(super) child: Child,
    address: SocketAddr,
}

pub(super) struct Fleet {
    pub(super) client: Client,
    pub(super) admin: Admin,
    /// The id of a chat, to be read.
    pub(super) chat: String,
    pub(super) databases: Vec<Replica>,
    pub(super) caches: Vec<Replica>,
    /// Before the last of the databases.
    pub(super) slow: FaultProxy,
    admin_address: String,
    _gateway: Child,
    _folder: TempDir,
    _servers: Servers,
}

fn replica(name: &str, folder: &Path, index: usize, more: &str) -> Replica {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let config = folder.join(format!("{name}-{index}.toml"));
    let text = format!("address = \"{address}\"\nadmin = {{ address = \"127.0.0.1:0\" }}\n{more}");
    fs::write(&config, text).unwrap();
    Replica { child: serve(name, &config), address }
}

/// A pool that is asked for statistics, and the route to it.
fn pool(name: &str, stats: &str, addresses: &[SocketAddr]) -> String {
    let backends: Vec<_> = addresses.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!(
        "[[pools]]\nname = \"{name}\"\nbackends = [{}]\nhealth = {{ interval = \"1s\" }}\n\
         stats_method = \"weft.{name}.v1.{stats}/GetStats\"\n\
         [[routes]]\ngrpc_service = \"weft.{name}.v1.*\"\npool = \"{name}\"\n",
        backends.join(", ")
    )
}

impl Fleet {
    pub(super) async fn start() -> Self {
        let servers = Servers::start().await.unwrap();
        let all: toml::Table = servers.config().parse().unwrap();
        let section = |name: &str| toml::to_string(&all[name]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let caches: Vec<_> = (0..3).map(|i| replica("cache", folder.path(), i, &section("cache"))).collect();
        let cache_addresses: Vec<_> = caches.iter().map(|cache| cache.address).collect();
        let peers: Vec<_> = cache_addresses.iter().map(|address| format!("\"{address}\"")).collect();
        let more = format!("cache = {{ addresses = [{}] }}\n{}", peers.join(", "), section("database"));
        let databases: Vec<_> = (0..3).map(|i| replica("database", folder.path(), i, &more)).collect();
        let slow = FaultProxy::start(databases[2].address).await.unwrap();

        let (gateway, admin) = (free_port().unwrap(), free_port().unwrap());
        let config = folder.path().join("gateway.toml");
        let text = format!(
            "listeners = [{{ address = \"127.0.0.1:{gateway}\" }}]\nadmin = {{ address = \"127.0.0.1:{admin}\" }}\n{}{}",
            pool("cache", "CacheService", &cache_addresses),
            pool("database", "InsightService", &[databases[0].address, databases[1].address, slow.address()])
        );
        fs::write(&config, text).unwrap();
        let _gateway = serve("gateway", &config);
        let (gateway, admin_address) =
            (format!("http://127.0.0.1:{gateway}"), format!("http://127.0.0.1:{admin}"));
        let client = eventually_ok(LIMIT, || Client::connect(&gateway, "ada")).await;
        let admin = eventually_ok(LIMIT, || Admin::connect(&admin_address, "ada")).await;
        let chat =
            eventually_ok(LIMIT, || async { client.chats().create("spread", "", "one").await }).await.id;
        Self {
            client,
            admin,
            chat,
            databases,
            caches,
            slow,
            admin_address,
            _gateway,
            _folder: folder,
            _servers: servers,
        }
    }

    pub(super) async fn is_healthy(&self) -> bool {
        let pools = self.admin.pools().await.unwrap();
        pools.iter().flat_map(|pool| &pool.backends).all(|backend| backend.health() == Health::Healthy)
    }

    /// The calls that the gateway has given to each database, by address.
    pub(super) async fn database_calls(&self) -> HashMap<String, u64> {
        let pools = self.admin.pools().await.unwrap();
        let databases = pools.into_iter().find(|pool| pool.name == "database").unwrap();
        databases.backends.into_iter().map(|backend| (backend.address, backend.calls)).collect()
    }

    /// The reads of chats that each cache says it has had, by address; of those that say anything.
    pub(super) async fn cache_reads(&self) -> HashMap<String, u64> {
        let (_, replicas) = self.admin.stats().await.unwrap();
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
        command.args(["--admin", &self.admin_address, "status", "--json"]).stderr(Stdio::inherit());
        let output = command.output().await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
