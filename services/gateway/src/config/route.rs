//! Which calls go where, and what holds for them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_runtime::config::duration;

use super::RateLimit;

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

/// Which calls go to a pool, or elsewhere. Among the routes that match, the order is that of the Gateway API: an exact
/// host counts before a longer and a shorter `*.`, a path before a longer and a shorter prefix, one with methods before
/// one without, more headers before fewer, and the earlier before the later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// gRPC calls to this service; `*` at the end stands for any rest.
    pub grpc_service: Option<String>,
    /// Requests for this host, without port; `*.` at the beginning stands for one or more labels.
    pub host: Option<String>,
    /// Requests for exactly this path.
    pub path: Option<String>,
    /// Requests whose path begins so.
    pub path_prefix: Option<String>,
    /// Only requests with one of these methods. Default: all.
    pub methods: Vec<String>,
    /// Only requests with all of these headers; gRPC metadata are headers. Default: none.
    pub headers: Vec<HeaderMatch>,
    /// The pool's name.
    pub pool: String,
    /// Where the client is told to go instead.
    pub redirect: Option<Redirect>,
    /// What of the request is written anew before it is sent on. Default: nothing.
    pub rewrite: Rewrite,
    /// Which web pages may call it from another origin than its own. Default: none; what a backend says of it is passed
    /// on.
    pub cors: Option<Cors>,
    /// How long a call may take when its client sets no deadline. Default: the pool's `timeout`.
    #[serde(with = "duration::option")]
    pub timeout: Option<Duration>,
    /// The longest deadline that a client's `grpc-timeout` may set. Default: none, clients know best.
    #[serde(with = "duration::option")]
    pub max_timeout: Option<Duration>,
    /// How long neither side may send anything before the call ends as UNAVAILABLE, or a WebSocket is closed; `0s` for
    /// any time. Default 15 min: a language model may think for minutes, and a peer that is gone is noticed by the kernel
    /// within 30 s anyway.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Its methods may be sent again after they may have been executed. Default false: only those whose
    /// `idempotency_level` says so.
    pub idempotent: bool,
    /// `interactive` (the default) or `batch`.
    pub priority: Priority,
    /// Calls at once on this route; further ones answer RESOURCE_EXHAUSTED. Default 0: no limit of its own.
    pub max_in_flight: usize,
    /// Calls at once of one caller, the user or else the address; further ones answer RESOURCE_EXHAUSTED. Default 0: no
    /// limit of its own.
    pub max_in_flight_per_caller: usize,
    /// Who may call it: any of these roles; `anonymous` stands for everybody. Default: none, `auth.rules` say.
    pub roles: Vec<String>,
    /// How many calls may come in a time; further ones answer RESOURCE_EXHAUSTED. Counted by each gateway for itself.
    /// Default: none.
    pub rate_limits: Vec<RateLimit>,
    /// The largest request body in bytes; 0 for any size. Default: `overload.max_request_bytes`; with `openai`, where a
    /// limit must be, 32 MiB if that has none.
    pub max_request_bytes: Option<u64>,
    /// Whether the API of OpenAI is served below its `path_prefix`: calls that name a model go to the pool that serves it
    /// (`pools[].models`), everything else to `pool`, if there is one. Default false.
    pub openai: bool,
}

/// A header that a request must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Its name, in any case.
    pub name: String,
    /// Its value. Default: any.
    #[serde(default)]
    pub value: Option<String>,
}

/// Which web pages may call a route from another origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cors {
    /// Such as `https://chat.example.com`; `*` for all.
    pub origins: Vec<String>,
    /// Whether cookies go along. Default false; not with `*`.
    pub credentials: bool,
    /// Headers of an answer that a page may read, beside those of gRPC. Default: none.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember what a page may. Default 1 h.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for Cors {
    fn default() -> Self {
        let (origins, expose_headers) = (Vec::new(), Vec::new());
        Self { origins, credentials: false, expose_headers, max_age: Duration::from_secs(3600) }
    }
}

/// Where a client is told to go. What is not given stays as it asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// `host` or `host:port`.
    pub host: Option<String>,
    /// What stands for the path, or for the prefix that the route matches.
    pub path: Option<String>,
    /// 301, 302 (the default), 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { scheme: None, host: None, path: None, status: 302 }
    }
}

/// What of a request is written anew before it is sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// What the backend is asked for as its host. Default: what the client asks for.
    pub host: Option<String>,
    /// What stands for the path, or for the prefix that the route matches.
    pub path: Option<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            grpc_service: None,
            host: None,
            path: None,
            path_prefix: None,
            methods: Vec::new(),
            headers: Vec::new(),
            pool: String::new(),
            redirect: None,
            rewrite: Rewrite::default(),
            cors: None,
            timeout: None,
            max_timeout: None,
            idle_timeout: Duration::from_secs(15 * 60),
            idempotent: false,
            priority: Priority::default(),
            max_in_flight: 0,
            max_in_flight_per_caller: 0,
            roles: Vec::new(),
            rate_limits: Vec::new(),
            max_request_bytes: None,
            openai: false,
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
        let mut label = self.methods.join(",");
        if !label.is_empty() {
            label.push(' ');
        }
        if let Some(service) = &self.grpc_service {
            label.push_str(service);
        } else {
            label.push_str(&self.host.as_deref().unwrap_or_default().to_ascii_lowercase());
            label.push_str(self.path.as_deref().or(self.path_prefix.as_deref()).unwrap_or("/"));
            // Beside a prefix of the same text.
            label.push_str(if self.path.is_some() { "$" } else { "" });
        }
        for HeaderMatch { name, value } in &self.headers {
            label.push(' ');
            label.push_str(&name.to_ascii_lowercase());
            label.push('=');
            label.push_str(value.as_deref().unwrap_or("*"));
        }
        label
    }
}
