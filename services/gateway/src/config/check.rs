//! Everything that can be wrong with the gateway's configuration.

mod auth;
mod models;
mod route;

use std::collections::HashSet;

use http::uri::Authority;
use weft_balance::{MAX_WEIGHT, retry::MOST_ATTEMPTS};
use weft_mesh::{discovery::Target, tls};
use weft_runtime::config::Problems;

use super::{Balance, Config, HashOn, Health, Pool, balance::code, network};

pub(super) fn validate(config: &Config, problems: &mut Problems) {
    problems.require(!config.listeners.is_empty(), "listeners", "at least one is needed");
    problems.require(!config.reload.interval.is_zero(), "reload.interval", "must be longer than 0 s");
    problems.require(config.workers <= 1024, "workers", "must be at most 1024");
    let percent = config.overload.batch_percent;
    problems.require((1..=100).contains(&percent), "overload.batch_percent", "must be 1 to 100");
    problems.require(config.access_log.as_deref() != Some(""), "access_log", "must be `stdout` or a file");
    let mut names = HashSet::new();
    for (i, pool) in config.pools.iter().enumerate() {
        let key = format!("pools[{i}]");
        if pool.name.is_empty() {
            problems.push(format!("{key}.name"), "must be given");
        } else if !names.insert(pool.name.as_str()) {
            problems.push(format!("{key}.name"), format!("\"{}\" is taken", pool.name));
        }
        check_pool(pool, &key, problems);
    }
    for (i, listener) in config.listeners.iter().enumerate() {
        if let Some(Err(problem)) = listener.tls.as_ref().map(tls::Server::check) {
            problems.push(format!("listeners[{i}].tls"), problem);
        }
    }
    for (i, proxy) in config.trusted_proxies.iter().enumerate() {
        if network(proxy).is_none() {
            problems
                .push(format!("trusted_proxies[{i}]"), format!("\"{proxy}\" is not an address or a network"));
        }
    }
    route::validate(&config.routes, &names, problems);
    auth::validate(config, problems);
    models::validate(config, problems);
}

fn check_pool(pool: &Pool, key: &str, problems: &mut Problems) {
    if let Some(Err(problem)) = pool.tls.as_ref().map(tls::Client::check) {
        problems.push(format!("{key}.tls"), problem);
    }
    let mut addresses = HashSet::new();
    for (i, backend) in pool.backends.iter().enumerate() {
        let key = format!("{key}.backends[{i}]");
        if !Target::is_address(&backend.address) {
            problems.push(format!("{key}.address"), format!("\"{}\" is not host:port", backend.address));
        } else if !addresses.insert(backend.address.as_str()) {
            problems.push(format!("{key}.address"), format!("{} is there twice", backend.address));
        }
        if Target::is_service(&backend.address) && backend.weight != 1 {
            problems.push(format!("{key}.weight"), "SRV records bring their own");
        }
        if !(1..=MAX_WEIGHT).contains(&backend.weight) {
            problems
                .push(format!("{key}.weight"), format!("must be 1 to {MAX_WEIGHT}, is {}", backend.weight));
        }
    }
    check_health(&pool.health, key, problems);
    for (name, value) in [("refresh", pool.refresh), ("timeout", pool.timeout)] {
        if value.is_zero() {
            problems.push(format!("{key}.{name}"), "must be longer than 0 s");
        }
    }
    check_balance(pool, key, problems);
    if let Some(method) = &pool.stats_method
        && method.split('/').filter(|part| !part.is_empty()).count() != 2
    {
        problems.push(format!("{key}.stats_method"), format!("\"{method}\" is not package.Service/Method"));
    }
}

fn check_health(health: &Health, key: &str, problems: &mut Problems) {
    for (name, value) in [("interval", health.interval), ("timeout", health.timeout)] {
        if value.is_zero() {
            problems.push(format!("{key}.health.{name}"), "must be longer than 0 s");
        }
    }
    for (name, value) in
        [("healthy_threshold", health.healthy_threshold), ("unhealthy_threshold", health.unhealthy_threshold)]
    {
        if value == 0 {
            problems.push(format!("{key}.health.{name}"), "must be at least 1");
        }
    }
    if !health.path.starts_with('/') {
        problems.push(format!("{key}.health.path"), "must begin with \"/\"");
    }
    if health.authority.as_ref().is_some_and(|authority| authority.parse::<Authority>().is_err()) {
        problems.push(format!("{key}.health.authority"), "must be host or host:port");
    }
}

/// The numbers of a pool's balancing.
fn check_balance(pool: &Pool, key: &str, problems: &mut Problems) {
    let mut require = |holds: bool, name: &str, problem: &str| {
        if !holds {
            problems.push(format!("{key}.{name}"), problem);
        }
    };
    let hashed = pool.balance == Balance::Rendezvous;
    let hash_on = pool.hash_on.as_deref().map(HashOn::parse);
    require(hash_on != Some(None), "hash_on", "must be `header:<name>` or `cookie:<name>`");
    require(!hashed || hash_on.is_some(), "hash_on", "must be given with `balance = \"rendezvous\"`");
    require(hashed || hash_on.is_none(), "hash_on", "goes with `balance = \"rendezvous\"`");
    for (name, factor) in [
        ("hash_balance_factor", pool.hash_balance_factor),
        ("overprovisioning_factor", pool.overprovisioning_factor),
    ] {
        require((1.0..=100.0).contains(&factor), name, "must be 1 to 100");
    }
    require(pool.recorded_picks <= 65_536, "recorded_picks", "must be at most 65536");
    require(!pool.max_wait.is_zero(), "max_wait", "must be longer than 0 s");
    let aggression = pool.slow_start.aggression;
    require(aggression > 0.0 && aggression <= 100.0, "slow_start.aggression", "must be above 0, at most 100");
    for (name, percent) in [
        ("slow_start.min_percent", pool.slow_start.min_percent),
        ("panic.threshold_percent", pool.panic.threshold_percent),
        ("outlier.success_rate_percent", pool.outlier.success_rate_percent),
        ("outlier.max_ejected_percent", pool.outlier.max_ejected_percent),
    ] {
        require(percent <= 100, name, "must be at most 100");
    }
    require(pool.outlier.window.as_millis() >= 10, "outlier.window", "must be at least 10 ms");
    let base = pool.outlier.base_ejection;
    require(!base.is_zero(), "outlier.base_ejection", "must be longer than 0 s");
    require(pool.outlier.max_ejection >= base, "outlier.max_ejection", "must be at least base_ejection");
    let attempts = pool.retry.max_attempts;
    require((1..=MOST_ATTEMPTS).contains(&attempts), "retry.max_attempts", "must be 1 to 5");
    require(
        pool.retry.codes.iter().all(|name| code(name).is_some()),
        "retry.codes",
        "must be names of gRPC codes",
    );
    require(pool.retry.max_backoff >= pool.retry.backoff, "retry.max_backoff", "must be at least backoff");
}

#[cfg(test)]
mod tests {
    use weft_runtime::config::{Sources, render};

    use super::super::*;

    fn load(text: &str) -> Result<Config, Vec<String>> {
        let sources = Sources::from_text(text).unwrap();
        sources.load::<Config>("gateway", toml::Table::new()).map_err(|error| error.problems)
    }

    #[test]
    fn the_documented_example_is_understood() {
        let config = load(
            r#"
            [[listeners]]
            address = "127.0.0.1:7080"
            [admin]
            address = "127.0.0.1:7090"
            [[pools]]
            name = "echo"
            protocol = "grpc"
            balance = "least_connections"
            backends = [{ address = "127.0.0.1:9001", weight = 1 }, { address = "127.0.0.1:9002", weight = 2 }]
            [pools.health]
            kind = "grpc"
            path = "/health"
            interval = "30s"
            timeout = "5s"
            healthy_threshold = 2
            unhealthy_threshold = 2
            [[routes]]
            grpc_service = "grpc.testing.*"
            pool = "echo"
            "#,
        )
        .unwrap();
        assert_eq!(config.pools.len(), 1, "given pools replace the default ones");
        assert_eq!(config.pools[0].backends[1].weight, 2);
        let defaults = Health { kind: Some(HealthKind::Grpc), ..Health::default() };
        assert_eq!(config.pools[0].health, defaults, "the example shows the defaults");
        assert_eq!(load(&render(&config)).unwrap(), config);
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(load("").unwrap(), Config::default());
    }

    #[test]
    fn every_problem_is_named() {
        let problems = load(
            r#"
            typo = 1
            listeners = []
            trusted_proxies = ["10.0.0.1", "10.0.0.0/33"]
            [[pools]]
            name = "a"
            backends = [{ address = "nowhere" }, { address = "h:1", weight = 0 }, { address = "h:1", colour = "red" },
                { address = "srv:_grpc._tcp.h", weight = 2 }]
            health = { healthy_threshold = 0, interval = "0s", path = "health", authority = "a b" }
            stats_method = "GetStats"
            balance = "rendezvous"
            hash_balance_factor = 0.5
            retry = { max_attempts = 6, codes = ["OOPS"] }
            outlier = { success_rate_percent = 101, max_ejection = "1s" }
            [[pools]]
            name = "a"
            tls = { ca = "/nowhere.pem", certificate = "/nowhere.pem" }
            [[routes]]
            grpc_service = "a.*.b"
            pool = "b"
            [[routes]]
            pool = "a"
            [[routes]]
            grpc_service = "x"
            path_prefix = "y"
            pool = "a"
            [[routes]]
            host = "a.*"
            path = "/x"
            path_prefix = "/"
            pool = "a"
            redirect = { status = 200, scheme = "ftp", path = "x" }
            [[routes]]
            path = "/x"
            methods = ["get"]
            headers = [{ name = "a b" }, { name = "x", value = "\n" }]
            rewrite = { host = "a b", path = "x y" }
            rate_limits = [{ requests = 0, per = "0s", key = "chat" }]
            cors = { origins = ["*", "chat.example"], credentials = true, expose_headers = ["a b"] }
            pool = "a"
            [[routes]]
            host = "*.h"
            methods = ["GET"]
            pool = "a"
            [[routes]]
            host = "*.H"
            methods = ["GET"]
            pool = "a"
            "#,
        )
        .unwrap_err();
        for expected in [
            "typo: unknown key",
            "pools[0].backends[2].colour: unknown key",
            "listeners: at least one",
            "pools[0].backends[0].address: \"nowhere\"",
            "pools[0].backends[1].weight: must be 1 to 1000",
            "pools[0].backends[2].address: h:1 is there twice",
            "pools[0].backends[3].weight: SRV records",
            "pools[0].health.authority",
            "pools[0].health.healthy_threshold",
            "pools[0].health.interval",
            "pools[0].health.path",
            "pools[0].stats_method",
            "pools[0].hash_on: must be given",
            "pools[0].hash_balance_factor",
            "pools[0].retry.max_attempts",
            "pools[0].retry.codes",
            "pools[0].outlier.success_rate_percent",
            "pools[0].outlier.max_ejection",
            "pools[1].name: \"a\" is taken",
            "pools[1].tls: /nowhere.pem",
            "routes[0].pool: there is no pool \"b\"",
            "routes[0].grpc_service",
            "routes[1]: needs",
            "routes[2]: grpc_service goes without",
            "routes[2].path_prefix",
            "routes[3].pool: goes without redirect",
            "routes[3].redirect.status",
            "routes[3].redirect.scheme",
            "routes[3].redirect.path",
            "routes[3].path: goes without path_prefix",
            "routes[3].host",
            "routes[4].methods: \"get\"",
            "routes[4].headers[0].name",
            "routes[4].headers[1].value",
            "routes[4].rewrite.host",
            "routes[4].rate_limits[0]: requests",
            "routes[4].rate_limits[0].per",
            "routes[4].rate_limits[0].key: \"chat\"",
            "routes[4].cors.origins: \"chat.example\"",
            "routes[4].cors.credentials",
            "routes[4].cors.expose_headers",
            "routes[4].rewrite.path",
            "routes[6]: matches the same",
            "trusted_proxies[1]: \"10.0.0.0/33\"",
        ] {
            let expected_key = expected.replace("pools[0].backends[2].colour", "pools.0.backends.2.colour");
            let found = problems.iter().any(|p| p.starts_with(expected) || p.starts_with(&expected_key));
            assert!(found, "{expected} is not in {problems:#?}");
        }
    }
}
