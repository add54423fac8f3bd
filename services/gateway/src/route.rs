//! Which pool a call goes to: plain code over small views of a request.

use crate::config::Route;

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

/// All routes, ready to be asked. Routes are few: they are scanned, best first.
#[derive(Debug, Default)]
pub struct Routes {
    /// Patterns by falling length, exact before `*`.
    services: Vec<(Pattern, String)>,
    /// Those with a host first, then by falling length of the prefix.
    paths: Vec<(Option<String>, String, String)>,
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
        for route in routes {
            match &route.grpc_service {
                Some(service) => {
                    let pattern = service.strip_suffix('*').map_or_else(
                        || Pattern::Exact(service.clone()),
                        |prefix| Pattern::Prefix(prefix.to_owned()),
                    );
                    table.services.push((pattern, route.pool.clone()));
                }
                None => {
                    let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
                    let prefix = route.path_prefix.clone().unwrap_or_else(|| "/".to_owned());
                    table.paths.push((host, prefix, route.pool.clone()));
                }
            }
        }
        table.services.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.rank()));
        table.paths.sort_by_key(|(host, prefix, _)| std::cmp::Reverse((host.is_some(), prefix.len())));
        table
    }

    /// The pool for a request: by its service when it is gRPC, else, or when no service matches, by host and path.
    #[must_use]
    pub fn find(&self, view: View<'_>) -> Option<&str> {
        if view.grpc
            && let Some(service) = view.path.strip_prefix('/').and_then(|path| path.split_once('/'))
            && let Some((_, pool)) = self.services.iter().find(|(pattern, _)| pattern.matches(service.0))
        {
            return Some(pool);
        }
        let name = host_name(view.host);
        let matches = |host: &Option<String>, prefix: &str| {
            host.as_ref().is_none_or(|host| host.eq_ignore_ascii_case(name)) && view.path.starts_with(prefix)
        };
        self.paths.iter().find(|(host, prefix, _)| matches(host, prefix)).map(|(_, _, pool)| pool.as_str())
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
        assert_eq!(routes.find(grpc("/a.b.Chat/Get")), Some("chat"));
        assert_eq!(routes.find(grpc("/a.b.ChatRoom/Get")), Some("ab"));
        assert_eq!(routes.find(grpc("/a.c.X/Get")), Some("a"));
        assert_eq!(routes.find(grpc("/z.X/Get")), Some("any"));
        assert_eq!(Routes::new(&[Route::grpc("a.*", "a")]).find(grpc("/b.X/Get")), None);
        assert_eq!(Routes::new(&[Route::grpc("a.*", "a")]).find(grpc("garbage")), None);
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
        assert_eq!(routes.find(http("chat.example.com:7080", "/assets/x")), Some("chat"));
        assert_eq!(routes.find(http("CHAT.example.com", "/api/x")), Some("api"));
        assert_eq!(routes.find(http("other", "/assets/x")), Some("assets"));
        assert_eq!(routes.find(http("[::1]:80", "/x")), Some("any"));
    }

    #[test]
    fn grpc_without_a_service_route_falls_back_to_paths() {
        let routes = Routes::new(&[Route::grpc("a.*", "a"), Route::path("/b.", "b")]);
        assert_eq!(routes.find(grpc("/b.X/Get")), Some("b"));
        assert_eq!(routes.find(http("x", "/a.X/Get")), None, "a service route is for gRPC only");
    }
}
