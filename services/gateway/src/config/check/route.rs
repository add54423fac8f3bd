//! Everything that can be wrong with routes.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, Method, uri::Authority};
use weft_runtime::config::Problems;

use crate::config::{Cors, RateKey, RateLimit, Redirect, Route};

/// Checks all routes, given the names of all pools.
pub(super) fn validate(routes: &[Route], pools: &HashSet<&str>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (i, route) in routes.iter().enumerate() {
        let key = format!("routes[{i}]");
        match &route.redirect {
            Some(redirect) => check_redirect(redirect, &key, problems),
            None if pools.contains(route.pool.as_str()) || route.openai && route.pool.is_empty() => {}
            None => problems.push(format!("{key}.pool"), format!("there is no pool \"{}\"", route.pool)),
        }
        check_target(route, &key, problems);
        check_conditions(route, &key, problems);
        for (i, limit) in route.rate_limits.iter().enumerate() {
            check_rate(limit, &format!("{key}.rate_limits[{i}]"), problems);
        }
        if let Some(cors) = &route.cors {
            check_cors(cors, &format!("{key}.cors"), problems);
        }
        for (name, value) in [("timeout", route.timeout), ("max_timeout", route.max_timeout)] {
            if value.is_some_and(|value| value.is_zero()) {
                problems.push(format!("{key}.{name}"), "must be longer than 0 s");
            }
        }
        if !seen.insert(route.label()) {
            problems.push(key, "matches the same as an earlier route");
        }
    }
}

/// What a route is for, and that what is written together goes together.
fn check_target(route: &Route, key: &str, problems: &mut Problems) {
    let http = route.host.is_some() || route.path.is_some() || route.path_prefix.is_some();
    match (&route.grpc_service, http) {
        (None, false) => problems.push(key, "needs grpc_service, host, path or path_prefix"),
        (Some(_), true) => problems.push(key, "grpc_service goes without host, path and path_prefix"),
        _ => {}
    }
    if route.path.is_some() && route.path_prefix.is_some() {
        problems.push(format!("{key}.path"), "goes without path_prefix");
    }
    if route.redirect.is_some() && !route.pool.is_empty() {
        problems.push(format!("{key}.pool"), "goes without redirect");
    }
    if route.grpc_service.is_some() {
        let set = [
            ("redirect", route.redirect.is_some()),
            ("rewrite.path", route.rewrite.path.is_some()),
            ("methods", !route.methods.is_empty()),
        ];
        for (name, _) in set.iter().filter(|(_, set)| *set) {
            problems.push(format!("{key}.{name}"), "goes without grpc_service");
        }
    }
    if let Some(host) = &route.rewrite.host
        && host.parse::<Authority>().is_err()
    {
        problems.push(format!("{key}.rewrite.host"), format!("\"{host}\": must be host or host:port"));
    }
    check_path(route.rewrite.path.as_deref(), &format!("{key}.rewrite.path"), problems);
}

/// What a request must be for a route to match it.
fn check_conditions(route: &Route, key: &str, problems: &mut Problems) {
    if let Some(service) = &route.grpc_service
        && (service.is_empty() || service.strip_suffix('*').unwrap_or(service).contains(['*', '/']))
    {
        let problem = format!("\"{service}\": a service's name, `*` only at the end");
        problems.push(format!("{key}.grpc_service"), problem);
    }
    for (name, path) in [("path", &route.path), ("path_prefix", &route.path_prefix)] {
        check_path(path.as_deref(), &format!("{key}.{name}"), problems);
    }
    if let Some(host) = &route.host {
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.is_empty() || name.contains(['/', ':', '*']) {
            let problem = format!("\"{host}\": a host's name without port, `*.` only at the beginning");
            problems.push(format!("{key}.host"), problem);
        }
    }
    for method in &route.methods {
        // Methods are told apart by case; one in another is a mistake.
        if method.bytes().any(|b| b.is_ascii_lowercase()) || Method::from_bytes(method.as_bytes()).is_err() {
            problems.push(format!("{key}.methods"), format!("\"{method}\" is not a method, as in `GET`"));
        }
    }
    for (i, header) in route.headers.iter().enumerate() {
        let key = format!("{key}.headers[{i}]");
        if header.name.parse::<HeaderName>().is_err() {
            problems.push(format!("{key}.name"), format!("\"{}\" is not a header's name", header.name));
        }
        if header.value.as_ref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
            problems.push(format!("{key}.value"), "no header has such a value");
        }
    }
}

fn check_rate(limit: &RateLimit, key: &str, problems: &mut Problems) {
    if limit.requests == 0 || limit.burst == Some(0) {
        problems.push(key, "requests and burst must be at least 1");
    }
    if limit.per.is_zero() {
        problems.push(format!("{key}.per"), "must be longer than 0 s");
    }
    if RateKey::parse(&limit.key).is_none() {
        let problem = format!("\"{}\": must be `address`, `user`, `header:<name>` or `route`", limit.key);
        problems.push(format!("{key}.key"), problem);
    }
}

fn check_cors(cors: &Cors, key: &str, problems: &mut Problems) {
    if cors.origins.is_empty() {
        problems.push(format!("{key}.origins"), "at least one is needed");
    }
    for origin in &cors.origins {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if origin != "*" && host.is_none_or(|host| host.parse::<Authority>().is_err()) {
            let problem = format!("\"{origin}\" is no origin, as in `https://chat.example.com`");
            problems.push(format!("{key}.origins"), problem);
        }
    }
    // Browsers refuse it, and it would let any page act for whoever looks at it.
    if cors.credentials && cors.origins.iter().any(|origin| origin == "*") {
        problems.push(format!("{key}.credentials"), "does not go with `*`");
    }
    if cors.expose_headers.iter().any(|name| name.parse::<HeaderName>().is_err()) {
        problems.push(format!("{key}.expose_headers"), "must be names of headers");
    }
}

fn check_redirect(redirect: &Redirect, key: &str, problems: &mut Problems) {
    let key = format!("{key}.redirect");
    if !matches!(redirect.status, 301 | 302 | 303 | 307 | 308) {
        problems.push(format!("{key}.status"), "must be 301, 302, 303, 307 or 308");
    }
    if redirect.scheme.as_ref().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        problems.push(format!("{key}.scheme"), "must be `http` or `https`");
    }
    if redirect.host.as_ref().is_some_and(|host| host.parse::<Authority>().is_err()) {
        problems.push(format!("{key}.host"), "must be host or host:port");
    }
    check_path(redirect.path.as_deref(), &format!("{key}.path"), problems);
    if redirect.scheme.is_none() && redirect.host.is_none() && redirect.path.is_none() {
        problems.push(key, "needs scheme, host or path");
    }
}

fn check_path(path: Option<&str>, key: &str, problems: &mut Problems) {
    let Some(path) = path else { return };
    let sound = path.starts_with('/') && !path.contains(['*', '?', '#']);
    if !sound || path.parse::<http::uri::PathAndQuery>().is_err() {
        problems.push(key, format!("\"{path}\": must begin with \"/\", without `*`, `?` and `#`"));
    }
}
