//! Who calls whom, at the addresses that were really bound.

use std::{net::SocketAddr, time::Duration};

use weft_gateway::Backend;
use weft_mesh::Peer;

use super::Config;

/// How often the gateway checks what runs in its own process.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// Where each service listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) cache: SocketAddr,
    pub(super) database: SocketAddr,
    pub(super) queue: SocketAddr,
    pub(super) assets: SocketAddr,
}

/// Points the services at each other, except where the configuration points them elsewhere.
pub(super) fn wire(config: &mut Config, at: Addresses) {
    let (database, queue) = (weft_database::Config::default(), weft_queue::config::Config::default());
    point(&mut config.database.cache, &database.cache, at.cache);
    point(&mut config.database.queue, &database.queue, at.queue);
    point(&mut config.queue.database, &queue.database, at.database);
    point(&mut config.queue.assets, &queue.assets, at.assets);
    let defaults = weft_gateway::Config::default().pools;
    for pool in config.gateway.pools.iter_mut().filter(|pool| defaults.contains(pool)) {
        let address = match pool.name.as_str() {
            "cache" => at.cache,
            "database" => at.database,
            "queue" => at.queue,
            "assets" | "assets-http" => at.assets,
            _ => continue,
        };
        pool.backends = vec![Backend { address: address.to_string(), weight: 1, tier: 0 }];
        pool.health.interval = HEALTH_INTERVAL;
    }
}

fn point(peer: &mut Peer, default: &Peer, address: SocketAddr) {
    if peer.addresses == default.addresses {
        peer.addresses = vec![address.to_string()];
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weft_runtime::config::Sources;

    use super::*;

    fn wired(text: &str) -> Config {
        let mut config = Config::load(&Sources::from_text(text).unwrap(), Path::new("state")).unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        wire(&mut config, Addresses { cache: at(1), database: at(2), queue: at(3), assets: at(4) });
        config
    }

    #[test]
    fn everybody_is_pointed_at_what_was_bound() {
        let config = wired("");
        assert_eq!(config.database.cache.addresses, ["127.0.0.1:1"]);
        assert_eq!(config.database.queue.addresses, ["127.0.0.1:3"]);
        assert_eq!(config.queue.database.addresses, ["127.0.0.1:2"]);
        assert_eq!(config.queue.assets.addresses, ["127.0.0.1:4"]);
        let pools = config.gateway.pools.iter();
        let backends: Vec<_> =
            pools.map(|pool| (pool.name.as_str(), pool.backends[0].address.as_str())).collect();
        let at = |name| backends.iter().find(|(pool, _)| *pool == name).unwrap().1;
        assert_eq!(
            (at("cache"), at("assets"), at("assets-http")),
            ("127.0.0.1:1", "127.0.0.1:4", "127.0.0.1:4")
        );
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
