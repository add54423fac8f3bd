//! Which calls go to a pool, and what holds for them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_runtime::config::duration;

/// Who is served first when there is not room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A person waits for it.
    #[default]
    Interactive,
    /// Nobody does: refused first, and last out of the line for a backend.
    Batch,
}

/// Which calls go to a pool. Among the routes that match, a named host counts before any host, then the longest
/// service or path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// gRPC calls to this service; `*` at the end stands for any rest.
    pub grpc_service: Option<String>,
    /// Requests for this host, without port.
    pub host: Option<String>,
    /// Requests whose path begins so.
    pub path_prefix: Option<String>,
    /// The pool's name.
    pub pool: String,
    /// How long a call may take when its client sets no deadline. Default: the pool's `timeout`.
    #[serde(with = "duration::option")]
    pub timeout: Option<Duration>,
    /// The longest deadline that a client's `grpc-timeout` may set. Default: none, clients know best.
    #[serde(with = "duration::option")]
    pub max_timeout: Option<Duration>,
    /// How long neither side may send anything before the call ends as UNAVAILABLE; `0s` for any time. Default 15 min:
    /// a language model may think for minutes, and a peer that is gone is noticed by pings within 30 s anyway.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Its methods may be sent again after they may have been executed. Default false: only those whose
    /// `idempotency_level` says so.
    pub idempotent: bool,
    /// `interactive` (the default) or `batch`.
    pub priority: Priority,
    /// Calls at once on this route; further ones answer RESOURCE_EXHAUSTED. Default 0: no limit of its own.
    pub max_in_flight: usize,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            grpc_service: None,
            host: None,
            path_prefix: None,
            pool: String::new(),
            timeout: None,
            max_timeout: None,
            idle_timeout: Duration::from_secs(15 * 60),
            idempotent: false,
            priority: Priority::default(),
            max_in_flight: 0,
        }
    }
}

impl Route {
    /// gRPC calls to a service, or to all that a pattern matches.
    #[must_use]
    pub fn grpc(service: &str, pool: &str) -> Self {
        Self { grpc_service: Some(service.to_owned()), pool: pool.to_owned(), ..Self::default() }
    }

    /// Requests whose path begins so.
    #[must_use]
    pub fn path(prefix: &str, pool: &str) -> Self {
        Self { path_prefix: Some(prefix.to_owned()), pool: pool.to_owned(), ..Self::default() }
    }

    /// What tells it from the others, as metrics and the access log show it: what it matches.
    #[must_use]
    pub fn label(&self) -> String {
        if let Some(service) = &self.grpc_service {
            return service.clone();
        }
        let host = self.host.as_deref().unwrap_or_default();
        format!("{host}{}", self.path_prefix.as_deref().unwrap_or("/"))
    }
}
