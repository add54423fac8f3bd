//! Everything that can be wrong with who may call what.

use std::collections::HashSet;

use weft_runtime::config::Problems;

use crate::{
    auth::{self, ANONYMOUS, Calls, Identity},
    config::{Auth, Config, Issuer},
};

/// Checks everything about callers.
pub(super) fn validate(config: &Config, problems: &mut Problems) {
    let auth = &config.auth;
    if let Some(Err(error)) = auth.api_keys.as_deref().map(auth::Keys::check) {
        problems.push("auth.api_keys", error);
    }
    let mut issuers = HashSet::new();
    for (i, issuer) in auth.issuers.iter().enumerate() {
        let key = format!("auth.issuers[{i}]");
        check_issuer(issuer, &key, problems);
        if !issuers.insert(&issuer.issuer) {
            problems.push(format!("{key}.issuer"), format!("\"{}\" is there twice", issuer.issuer));
        }
    }
    for (i, holder) in auth.certificates.iter().enumerate() {
        let key = format!("auth.certificates[{i}]");
        if holder.name.is_empty() {
            problems.push(format!("{key}.name"), "must be given");
        }
        if let Err(problem) = Identity::new(holder.user.clone(), holder.roles.clone(), None) {
            problems.push(key, problem);
        }
    }
    check_rules(config, problems);
    let signs = config.identity.key.is_some();
    for (i, pool) in config.pools.iter().enumerate() {
        if auth.is_configured() && config.audience(pool).is_some() && !signs {
            let problem = "needs identity.key: its backends could not tell one caller from another";
            problems.push(format!("pools[{i}].identity"), problem);
        }
        let mut services = config.routes.iter().filter(|route| route.pool == pool.name);
        let of_several = services.any(|route| {
            let service = route.grpc_service.as_deref().and_then(|service| service.strip_prefix("weft."));
            service.is_some_and(|rest| !rest.contains('.'))
        });
        if auth.is_configured() && pool.identity.is_none() && of_several {
            let problem =
                "must be given: a route leads to it that names no one service; empty for none of Weft's";
            problems.push(format!("pools[{i}].identity"), problem);
        }
    }
}

fn check_issuer(issuer: &Issuer, key: &str, problems: &mut Problems) {
    for (name, given) in [("issuer", !issuer.issuer.is_empty()), ("audiences", !issuer.audiences.is_empty())]
    {
        if !given {
            problems.push(format!("{key}.{name}"), "must be given");
        }
    }
    match (&issuer.jwks_url, &issuer.jwks_file) {
        (Some(url), None) => {
            let sound = url
                .parse::<http::Uri>()
                .is_ok_and(|url| matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some());
            if !sound {
                problems
                    .push(format!("{key}.jwks_url"), format!("\"{url}\" is not an https:// or http:// URL"));
            }
        }
        (None, Some(file)) => {
            if let Err(problem) = auth::check_key_set(file) {
                problems.push(format!("{key}.jwks_file"), format!("{}: {problem}", file.display()));
            }
        }
        _ => problems.push(key, "needs jwks_url or jwks_file"),
    }
    if issuer.algorithms.is_empty() {
        problems.push(format!("{key}.algorithms"), "at least one is needed");
    }
    for name in issuer.algorithms.iter().filter(|name| auth::algorithm(name).is_none()) {
        let problem = format!("\"{name}\" is not one of RS256, ES256, EdDSA and their like");
        problems.push(format!("{key}.algorithms"), problem);
    }
    if issuer.refresh.as_secs() < 10 {
        problems.push(format!("{key}.refresh"), "must be at least 10 s");
    }
    if issuer.leeway.as_secs() > 600 {
        problems.push(format!("{key}.leeway"), "must be at most 10 min");
    }
    for role in issuer.roles.values().filter(|role| !auth::is_role(role)) {
        problems.push(format!("{key}.roles"), format!("\"{role}\" is not a role"));
    }
}

fn check_rules(config: &Config, problems: &mut Problems) {
    let Auth { rules, .. } = &config.auth;
    for (i, rule) in rules.iter().enumerate() {
        let key = format!("auth.rules[{i}]");
        if Calls::parse(&rule.calls).is_none() {
            let problem = format!(
                "\"{}\": package.Service/Method or a path that begins with \"/\", `*` only at the end",
                rule.calls
            );
            problems.push(format!("{key}.calls"), problem);
        }
        check_roles(&rule.roles, &format!("{key}.roles"), problems);
        if rule.roles.is_empty() {
            problems.push(format!("{key}.roles"), "at least one is needed");
        }
    }
    for (i, route) in config.routes.iter().enumerate() {
        check_roles(&route.roles, &format!("routes[{i}].roles"), problems);
    }
    let asked = !rules.is_empty() || config.routes.iter().any(|route| !route.roles.is_empty());
    if asked && !config.auth.is_configured() {
        problems.push(
            "auth",
            "roles are asked for, but nobody can show any: needs api_keys, issuers or certificates",
        );
    }
}

fn check_roles(roles: &[String], key: &str, problems: &mut Problems) {
    for role in roles.iter().filter(|role| *role != ANONYMOUS && !auth::is_role(role)) {
        problems.push(key, format!("\"{role}\" is not a role: lower case letters, digits, `-` and `_`"));
    }
}
