//! Where a call goes: plain code over small views of a request.

mod cors;
mod pattern;
mod target;

use std::time::Duration;

use http::HeaderMap;

use crate::{
    config::{Priority, Route},
    rate::Limit,
};
pub use cors::CrossOrigin;
use pattern::{Host, Path, Service, Wanted};
pub use target::{Redirection, Rewriting, decoded, is_plain, normalised};

/// What of a request a route is found by.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Whether its content type is gRPC's.
    pub grpc: bool,
    /// Its method.
    pub method: &'a str,
    /// The host it asks for, with or without a port; empty when it names none.
    pub host: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// What holds for the calls of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The pool they go to.
    pub pool: String,
    /// Where they are told to go instead.
    pub redirection: Option<Redirection>,
    /// What of them is written anew.
    pub rewriting: Rewriting,
    /// Which web pages may call it from another origin.
    pub cors: Option<CrossOrigin>,
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
    /// Calls at once of one caller; `None` for no limit.
    pub max_in_flight_per_caller: Option<usize>,
    /// Who may make them; none, `auth.rules` say.
    pub roles: Vec<String>,
    /// How many may come in a time.
    pub(crate) rate_limits: Vec<Limit>,
    /// The largest request body in bytes, 0 for any; `None` for the limit of all.
    pub max_request_bytes: Option<u64>,
    /// Where the API of OpenAI is served: the prefix of its paths.
    pub openai: Option<String>,
}

impl From<&Route> for Rule {
    fn from(route: &Route) -> Self {
        Self {
            pool: route.pool.clone(),
            redirection: route.redirect.as_ref().map(|redirect| Redirection::new(route, redirect)),
            rewriting: Rewriting::new(route),
            cors: route.cors.as_ref().map(CrossOrigin::new),
            label: route.label(),
            timeout: route.timeout,
            max_timeout: route.max_timeout,
            idle_timeout: Some(route.idle_timeout).filter(|timeout| !timeout.is_zero()),
            idempotent: route.idempotent,
            priority: route.priority,
            max_in_flight: Some(route.max_in_flight).filter(|limit| *limit > 0),
            max_in_flight_per_caller: Some(route.max_in_flight_per_caller).filter(|limit| *limit > 0),
            roles: route.roles.clone(),
            rate_limits: route
                .rate_limits
                .iter()
                .enumerate()
                .map(|(i, limit)| Limit::new(limit, &route.label(), i))
                .collect(),
            max_request_bytes: route.max_request_bytes,
            openai: route.path_prefix.clone().filter(|_| route.openai),
        }
    }
}

/// All routes, ready to be asked. Routes are few: they are scanned, best first.
#[derive(Debug, Default)]
pub struct Routes {
    rules: Vec<Rule>,
    services: Vec<Matcher<Service>>,
    paths: Vec<Matcher<(Host, Path)>>,
}

/// What a request must be, and the rule for it.
#[derive(Debug)]
struct Matcher<P> {
    place: P,
    wanted: Wanted,
    rule: usize,
}

impl Routes {
    /// Builds the table.
    #[must_use]
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self::default();
        for (rule, route) in routes.iter().enumerate() {
            table.rules.push(Rule::from(route));
            let wanted = Wanted::new(route);
            match &route.grpc_service {
                Some(service) => {
                    table.services.push(Matcher { place: Service::new(service), wanted, rule });
                }
                None => {
                    let place = (Host::new(route.host.as_deref()), Path::new(route));
                    table.paths.push(Matcher { place, wanted, rule });
                }
            }
        }
        // Both sorts are stable: of equals the earlier route counts.
        table.services.sort_by_key(|m| std::cmp::Reverse((m.place.rank(), m.wanted.rank())));
        table.paths.sort_by_key(|m| std::cmp::Reverse((m.place.0.rank(), m.place.1.rank(), m.wanted.rank())));
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
            && let Some((service, _)) = view.path.strip_prefix('/').and_then(|path| path.split_once('/'))
            && let Some(found) =
                self.services.iter().find(|m| m.place.matches(service) && m.wanted.matches(view))
        {
            return Some(found.rule);
        }
        let name = host_name(view.host);
        let found = self.paths.iter().find(|m| {
            let (host, path) = &m.place;
            host.matches(name) && path.matches(view.path) && m.wanted.matches(view)
        });
        found.map(|found| found.rule)
    }
}

/// A host without its port, and without the dot that may stand at the end of a whole name.
fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests;
