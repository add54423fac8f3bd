//! Which changes of a configuration a running gateway cannot follow.

use std::collections::BTreeMap;

use toml::Value;

use crate::config::Config;

/// What a reload takes over, as keys and tables. All else needs a restart, keys to come too.
const LIVE: [&str; 14] = [
    "auth.api_keys",
    "auth.certificates",
    "auth.issuers",
    "auth.rules",
    "pools",
    "routes",
    "lifecycle.max_in_flight",
    "lifecycle.max_concurrent_streams",
    "lifecycle.max_header_bytes",
    "lifecycle.max_connection_age",
    "lifecycle.max_connection_grace",
    "overload.batch_percent",
    "overload.max_request_bytes",
    "trusted_proxies",
];

/// The keys whose values differ from those that the process was started with and that a reload does not change.
pub(super) fn needs_restart(started: &Config, wanted: &Config) -> Vec<String> {
    let (started, wanted) = (flat(started), flat(wanted));
    let keys = started.keys().chain(wanted.keys().filter(|key| !started.contains_key(*key)));
    let changed = keys.filter(|key| started.get(*key) != wanted.get(*key));
    changed.filter(|key| !LIVE.contains(&key.as_str())).cloned().collect()
}

/// A configuration as dotted keys; lists are values.
fn flat(config: &Config) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    if let Ok(Value::Table(table)) = Value::try_from(config) {
        flatten("", table, &mut keys);
    }
    keys
}

fn flatten(prefix: &str, table: toml::Table, keys: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => flatten(&key, table, keys),
            value => drop(keys.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listener, Pool};

    #[test]
    fn sockets_and_threads_need_a_restart_and_limits_do_not() {
        let started = Config::default();
        let mut wanted = started.clone();
        wanted.pools.push(Pool::default());
        wanted.routes.clear();
        wanted.lifecycle.max_in_flight += 1;
        assert_eq!(needs_restart(&started, &wanted), Vec::<String>::new());

        wanted.workers += 1;
        wanted.listeners.push(Listener::at("127.0.0.1:1"));
        wanted.admin.address = "127.0.0.1:2".into();
        wanted.lifecycle.max_connections += 1;
        wanted.telemetry.otlp_endpoint = Some("http://127.0.0.1:4317".into());
        let expected =
            ["admin.address", "lifecycle.max_connections", "listeners", "workers", "telemetry.otlp_endpoint"];
        assert_eq!(needs_restart(&started, &wanted), expected);
    }
}
