//! Who calls whom, at the addresses that were really bound.

use std::{net::SocketAddr, time::Duration};

use weft_gateway::Backend;
use weft_mesh::Peer;

use super::Config;

/// How often the gateway checks what runs in its own process.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// Where each service listens, all its replicas.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) cache: Vec<SocketAddr>,
    pub(super) database: Vec<SocketAddr>,
    pub(super) queue: Vec<SocketAddr>,
    pub(super) assets: Vec<SocketAddr>,
}

/// Points the services at each other, except where the configuration points them elsewhere.
pub(super) fn wire(config: &mut Config, at: &Addresses) {
    let (database, queue) = (weft_database::Config::default(), weft_queue::config::Config::default());
    point(&mut config.database.cache, &database.cache, &at.cache);
    point(&mut config.database.queue, &database.queue, &at.queue);
    point(&mut config.queue.database, &queue.database, &at.database);
    point(&mut config.queue.assets, &queue.assets, &at.assets);
    point_pools(&mut config.gateway, at);
    // What a reload reads is pointed at them as well.
    let (origin, at) = (config.gateway.origin.take(), at.clone());
    config.gateway.origin = origin.map(|origin| origin.adjusted(move |gateway| point_pools(gateway, &at)));
}

fn point_pools(gateway: &mut weft_gateway::Config, at: &Addresses) {
    let defaults = weft_gateway::Config::default().pools;
    for pool in gateway.pools.iter_mut().filter(|pool| defaults.contains(pool)) {
        let addresses = match pool.name.as_str() {
            "cache" => &at.cache,
            "database" => &at.database,
            "queue" => &at.queue,
            "assets" | "assets-http" => &at.assets,
            _ => continue,
        };
        let backend = |address: &SocketAddr| Backend { address: address.to_string(), weight: 1, tier: 0 };
        pool.backends = addresses.iter().map(backend).collect();
        pool.health.interval = HEALTH_INTERVAL;
    }
}

fn point(peer: &mut Peer, default: &Peer, addresses: &[SocketAddr]) {
    if peer.addresses == default.addresses {
        peer.addresses = addresses.iter().map(SocketAddr::to_string).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weft_runtime::config::Sources;

    use super::*;

    fn wired(text: &str) -> Config {
        let mut config = Config::load(&Sources::from_text(text).unwrap(), Path::new("state")).unwrap();
        let at = |ports: &[u16]| ports.iter().map(|&port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let addresses =
            Addresses { cache: at(&[1, 11]), database: at(&[2]), queue: at(&[3]), assets: at(&[4, 14]) };
        wire(&mut config, &addresses);
        config
    }

    #[test]
    fn everybody_is_pointed_at_what_was_bound() {
        let config = wired("");
        assert_eq!(config.database.cache.addresses, ["127.0.0.1:1", "127.0.0.1:11"]);
        assert_eq!(config.database.queue.addresses, ["127.0.0.1:3"]);
        assert_eq!(config.queue.database.addresses, ["127.0.0.1:2"]);
        assert_eq!(config.queue.assets.addresses, ["127.0.0.1:4", "127.0.0.1:14"]);
        let at = |name: &str| {
            let pool = config.gateway.pools.iter().find(|pool| pool.name == name).unwrap();
            pool.backends.iter().map(|backend| backend.address.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(at("cache"), ["127.0.0.1:1", "127.0.0.1:11"]);
        assert_eq!(at("database"), ["127.0.0.1:2"]);
        assert_eq!(at("assets"), at("assets-http"), "both pools of the assets have every replica");
        assert_eq!(at("assets"), ["127.0.0.1:4", "127.0.0.1:14"]);
        assert!(config.gateway.pools.iter().all(|pool| pool.health.interval == HEALTH_INTERVAL));
    }

    #[test]
    fn what_the_configuration_sets_stays() {
        let config = wired(
            "[database]\ncache = { addresses = [\"cache:7101\"] }\n\
             [[gateway.pools]]\nname = \"database\"\nbackends = [{ address = \"db:7102\" }]\n\
             [[gateway.routes]]\ngrpc_service = \"weft.database.v1.*\"\npool = \"database\"",
        );
        assert_eq!(config.database.cache.addresses, ["cache:7101"]);
        assert_eq!(config.gateway.pools.len(), 1);
        assert_eq!(config.gateway.pools[0].backends[0].address, "db:7102");
        assert_eq!(config.gateway.pools[0].health.interval, Duration::from_secs(30));
    }
}
