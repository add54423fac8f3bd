//! Everything that can be wrong with what pools and routes say of models.

use http::uri::Authority;
use weft_runtime::config::Problems;

use crate::{
    config::{Config, Models, Pool, Protocol, Route},
    openai::{BUFFERED_LIMIT, bearer, read_key},
};

/// Checks it for all pools and routes.
pub(super) fn validate(config: &Config, problems: &mut Problems) {
    for (i, pool) in config.pools.iter().enumerate() {
        if let Some(models) = &pool.models {
            check_pool(pool, models, &format!("pools[{i}]"), problems);
        }
    }
    let served = config.pools.iter().any(|pool| pool.models.is_some());
    for (i, route) in config.routes.iter().enumerate().filter(|(_, route)| route.openai) {
        check_route(route, served, &format!("routes[{i}]"), problems);
    }
}

fn check_pool(pool: &Pool, models: &Models, key: &str, problems: &mut Problems) {
    if pool.protocol != Protocol::Http {
        problems.push(format!("{key}.protocol"), "must be `http` with models");
    }
    let key = format!("{key}.models");
    for name in &models.names {
        if name.is_empty() || name.strip_suffix('*').unwrap_or(name).contains('*') {
            let problem = format!("\"{name}\": a model's name, `*` only at the end");
            problems.push(format!("{key}.names"), problem);
        }
    }
    if models.names.is_empty() && !models.discover {
        problems.push(format!("{key}.names"), "must be given without `discover`");
    }
    for (name, value) in [
        ("refresh", models.refresh),
        ("timeout", models.timeout),
        ("keep", models.keep),
        ("load_interval", models.load_interval),
    ] {
        if value.is_zero() {
            problems.push(format!("{key}.{name}"), "must be longer than 0 s");
        }
    }
    if !is_path(&models.base_path) || !models.base_path.ends_with('/') {
        let problem =
            format!("\"{}\": must begin and end with \"/\", without `*`, `?`, `#`", models.base_path);
        problems.push(format!("{key}.base_path"), problem);
    }
    if models.load_path.as_ref().is_some_and(|path| !is_path(path)) {
        problems.push(format!("{key}.load_path"), "must begin with \"/\", without `*`, `?`, `#`");
    }
    if models.host.as_ref().is_some_and(|host| host.parse::<Authority>().is_err()) {
        problems.push(format!("{key}.host"), "must be host or host:port");
    }
    check_key(models, &key, problems);
}

fn is_path(path: &str) -> bool {
    let sound = path.starts_with('/') && !path.contains(['*', '?', '#']);
    sound && path.parse::<http::uri::PathAndQuery>().is_ok()
}

fn check_key(models: &Models, key: &str, problems: &mut Problems) {
    if !models.api_key.is_empty() && bearer(models.api_key.expose()).is_none() {
        problems.push(format!("{key}.api_key"), "is no text that a header can have");
    }
    let Some(file) = &models.api_key_file else { return };
    if !models.api_key.is_empty() {
        problems.push(format!("{key}.api_key_file"), "goes without api_key");
    }
    if let Err(problem) = read_key(file) {
        problems.push(format!("{key}.api_key_file"), problem);
    }
}

fn check_route(route: &Route, served: bool, key: &str, problems: &mut Problems) {
    let prefix = route.path_prefix.as_deref().unwrap_or_default();
    if !prefix.ends_with('/') {
        problems.push(format!("{key}.path_prefix"), "must be given and end with \"/\" with `openai`");
    }
    if route.redirect.is_some() {
        problems.push(format!("{key}.redirect"), "goes without `openai`");
    }
    if !served {
        problems.push(format!("{key}.openai"), "needs a pool with `models`");
    }
    if route.max_request_bytes.is_some_and(|limit| limit == 0 || limit > BUFFERED_LIMIT) {
        let problem = format!("must be 1 to {BUFFERED_LIMIT} with `openai`: requests are held whole");
        problems.push(format!("{key}.max_request_bytes"), problem);
    }
}

#[cfg(test)]
mod tests {
    use weft_runtime::config::Sources;

    use super::*;

    fn load(text: &str) -> Result<Config, Vec<String>> {
        let sources = Sources::from_text(text).unwrap();
        sources.load::<Config>("gateway", toml::Table::new()).map_err(|error| error.problems)
    }

    #[test]
    fn the_documented_example_is_understood_and_shows_no_key() {
        let config = load(
            r#"
            [[pools]]
            name = "local"
            protocol = "http"
            backends = [{ address = "10.0.0.5:8000" }, { address = "10.0.0.9:8000", tier = 1 }]
            models = { names = ["llama3.1:8b", "text-embed-*"] }
            [[pools]]
            name = "provider"
            protocol = "http"
            backends = [{ address = "api.example.com:443" }]
            tls = {}
            health = { kind = "tcp" }
            models = { host = "api.example.com", base_path = "/api/v1/", api_key = "sk-hunter2" }
            [[routes]]
            path_prefix = "/v1/"
            openai = true
            "#,
        )
        .unwrap();
        let models = config.pools[0].models.clone().unwrap();
        assert_eq!((models.discover, models.base_path.as_str()), (true, "/v1/"));
        assert!(!weft_runtime::config::render(&config).contains("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn every_problem_is_named() {
        let problems = load(
            r#"
            [[pools]]
            name = "a"
            models = { names = ["a*b", ""], refresh = "0s", base_path = "v1", host = "a b", api_key = "\n" }
            [[pools]]
            name = "b"
            protocol = "http"
            models = { discover = false, load_path = "metrics", load_interval = "0s", keep = "0s", timeout = "0s", api_key = "x", api_key_file = "/nowhere" }
            [[routes]]
            path_prefix = "/v1"
            openai = true
            max_request_bytes = 0
            [[routes]]
            path_prefix = "/x/"
            openai = true
            redirect = { path = "/y/" }
            "#,
        )
        .unwrap_err();
        for expected in [
            "pools[0].protocol: must be `http`",
            "pools[0].models.names: \"a*b\"",
            "pools[0].models.names: \"\"",
            "pools[0].models.refresh",
            "pools[0].models.base_path: \"v1\"",
            "pools[0].models.host",
            "pools[0].models.api_key: ",
            "pools[1].models.names: must be given",
            "pools[1].models.keep",
            "pools[1].models.load_path",
            "pools[1].models.load_interval",
            "pools[1].models.timeout",
            "pools[1].models.api_key_file: goes without",
            "pools[1].models.api_key_file: /nowhere",
            "routes[0].path_prefix: must be given and end",
            "routes[0].max_request_bytes",
            "routes[1].redirect: goes without",
        ] {
            assert!(problems.iter().any(|p| p.starts_with(expected)), "{expected} is not in {problems:#?}");
        }
        let problems = load("[[routes]]\npath_prefix = \"/v1/\"\nopenai = true\n").unwrap_err();
        assert!(problems.iter().any(|p| p.starts_with("routes[0].openai: needs a pool")), "{problems:#?}");
    }
}
