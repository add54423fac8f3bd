//! Which pool a call goes to: plain code over small views of a request.

use std::time::Duration;

use crate::config::{Priority, Route};

/// Which port of the table a request enters by.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Whether its content type is gRPC's.
    pub grpc: bool,
    /// The host it asks for, with or without a port; empty when it names none.
    pub host: &'a str,
    /// Its path.
    pub path: &'a str,
}

/// What holds for the calls of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The pool they go to.
    pub pool: String,
    /// The route's name in metrics: what it matches.
    pub label: String,
    /// How long a call may take when its client sets no deadline; `None`: the pool's limit.
    pub timeout: Option<Duration>,
    /// The longest deadline a client may set.
    pub max_timeout: Option<Duration>,
    /// How long neither side may send anything; `None` for any time.
    pub idle_timeout: Option<Duration>,
    /// Whether its methods may be sent again after they may have been executed, whatever contracts say.
    pub idempotent: bool,
    /// Who goes first when there is not room for all.
    pub priority: Priority,
    /// Calls at once; `None` for no limit of its own.
    pub max_in_flight: Option<usize>,
}

impl From<&Route> for Rule {
    fn from(route: &Route) -> Self {
        Self {
            pool: route.pool.clone(),
            label: route.label(),
            timeout: route.timeout,
            max_timeout: route.max_timeout,
            idle_timeout: Some(route.idle_timeout).filter(|timeout| !timeout.is_zero()),
            idempotent: route.idempotent,
            priority: route.priority,
            max_in_flight: Some(route.max_in_flight).filter(|limit| *limit > 0),
        }
    }
}

/// All routes, ready to be asked. Routes are few: they are scanned, best first.
#[derive(Debug, Default)]
pub struct Routes {
    rules: Vec<Rule>,
    /// Patterns by falling length, exact before `*`, and the rule of each.
    services: Vec<(Pattern, usize)>,
    /// Those with a host first, then by falling length of the prefix.
    paths: Vec<(Option<String>, String, usize)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    fn matches(&self, service: &str) -> bool {
        match self {
            Self::Exact(name) => name == service,
            Self::Prefix(prefix) => service.starts_with(prefix),
        }
    }

    const fn rank(&self) -> (usize, bool) {
        match self {
            Self::Exact(name) => (name.len(), true),
            Self::Prefix(prefix) => (prefix.len(), false),
        }
    }
}

impl Routes {
    /// Builds the table.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self::default();
        for (rule, route) in routes.iter().enumerate() {
            table.rules.push(Rule::from(route));
            match &route.grpc_service {
                Some(service) => {
                    let pattern = service.strip_suffix('*').map_or_else(
                        || Pattern::Exact(service.clone()),
                        |prefix| Pattern::Prefix(prefix.to_owned()),
                    );
                    table.services.push((pattern, rule));
                }
                None => {
                    let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
                    let prefix = route.path_prefix.clone().unwrap_or_else(|| "/".to_owned());
                    table.paths.push((host, prefix, rule));
                }
            }
        }
        table.services.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.rank()));
        table.paths.sort_by_key(|(host, prefix, _)| std::cmp::Reverse((host.is_some(), prefix.len())));
        table
    }

    /// The rules, by their index.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The index of the rule for a request: by its service when it is gRPC, else, or when no service matches, by host
    /// and path.
    #[must_use]
    pub fn find(&self, view: View<'_>) -> Option<usize> {
        if view.grpc
            && let Some(service) = view.path.strip_prefix('/').and_then(|path| path.split_once('/'))
            && let Some((_, rule)) = self.services.iter().find(|(pattern, _)| pattern.matches(service.0))
        {
            return Some(*rule);
        }
        let name = host_name(view.host);
        let matches = |host: &Option<String>, prefix: &str| {
            host.as_ref().is_none_or(|host| host.eq_ignore_ascii_case(name)) && view.path.starts_with(prefix)
        };
        self.paths.iter().find(|(host, prefix, _)| matches(host, prefix)).map(|(_, _, rule)| *rule)
    }
}

/// A host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool<'a>(routes: &'a Routes, view: View<'_>) -> Option<&'a str> {
        routes.find(view).map(|rule| routes.rules()[rule].pool.as_str())
    }

    fn grpc(path: &str) -> View<'_> {
        View { grpc: true, host: "x:1", path }
    }

    fn http<'a>(host: &'a str, path: &'a str) -> View<'a> {
        View { grpc: false, host, path }
    }

    #[test]
    fn the_longest_service_pattern_wins() {
        let routes = Routes::new(&[
            Route::grpc("*", "any"),
            Route::grpc("a.b.*", "ab"),
            Route::grpc("a.b.Chat", "chat"),
            Route::grpc("a.*", "a"),
        ]);
        assert_eq!(pool(&routes, grpc("/a.b.Chat/Get")), Some("chat"));
        assert_eq!(pool(&routes, grpc("/a.b.ChatRoom/Get")), Some("ab"));
        assert_eq!(pool(&routes, grpc("/a.c.X/Get")), Some("a"));
        assert_eq!(pool(&routes, grpc("/z.X/Get")), Some("any"));
        let routes = Routes::new(&[Route::grpc("a.*", "a")]);
        assert_eq!(pool(&routes, grpc("/b.X/Get")), None);
        assert_eq!(pool(&routes, grpc("garbage")), None);
    }

    #[test]
    fn a_host_counts_before_the_longest_path() {
        let host = |host: &str, prefix: Option<&str>, pool: &str| Route {
            host: Some(host.into()),
            path_prefix: prefix.map(Into::into),
            pool: pool.into(),
            ..Route::default()
        };
        let routes = Routes::new(&[
            Route::path("/", "any"),
            Route::path("/assets/", "assets"),
            host("Chat.example.com", None, "chat"),
            host("chat.example.com", Some("/api/"), "api"),
        ]);
        assert_eq!(pool(&routes, http("chat.example.com:7080", "/assets/x")), Some("chat"));
        assert_eq!(pool(&routes, http("CHAT.example.com", "/api/x")), Some("api"));
        assert_eq!(pool(&routes, http("other", "/assets/x")), Some("assets"));
        assert_eq!(pool(&routes, http("[::1]:80", "/x")), Some("any"));
    }

    #[test]
    fn grpc_without_a_service_route_falls_back_to_paths() {
        let routes = Routes::new(&[Route::grpc("a.*", "a"), Route::path("/b.", "b")]);
        assert_eq!(pool(&routes, grpc("/b.X/Get")), Some("b"));
        assert_eq!(pool(&routes, http("x", "/a.X/Get")), None, "a service route is for gRPC only");
    }
}
