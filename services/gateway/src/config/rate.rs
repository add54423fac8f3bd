//! How many calls may come in a time.

use std::time::Duration;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use weft_runtime::config::duration;

/// A limit on the calls of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimit {
    /// So many calls.
    pub requests: u64,
    /// In so much time. Default 1 s.
    #[serde(with = "duration")]
    pub per: Duration,
    /// So many at once after a rest. Default: `requests`.
    pub burst: Option<u64>,
    /// Whose calls are counted together: `address` (the default; of version 6 its /64), `header:<name>`, `user`
    /// for who is authenticated (else the address), or `route` for all of them.
    pub key: String,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: 0, per: Duration::from_secs(1), burst: None, key: "address".to_owned() }
    }
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RateKey {
    Route,
    Address,
    User,
    Header(HeaderName),
}

impl RateKey {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "route" => Some(Self::Route),
            "address" => Some(Self::Address),
            "user" => Some(Self::User),
            _ => text.strip_prefix("header:")?.parse().ok().map(Self::Header),
        }
    }
}
