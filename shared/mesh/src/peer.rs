//! Where a service is, as its callers configure it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The replicas of one service that another one calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// `host:port` of each replica. A name stands for every address it resolves to, and is resolved again every
    /// `refresh`. Default: none, the service is not called.
    pub addresses: Vec<String>,
    /// How long a unary call may take when its caller does not say. Default 5 s: long enough for a busy replica,
    /// short enough for a person.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// How long a streaming call may take when its caller does not say. Default 1 h: uploads and job watches.
    #[serde(with = "crate::duration")]
    pub stream_timeout: Duration,
    /// How often names are resolved again. Default 5 s, the usual TTL of a cluster's DNS.
    #[serde(with = "crate::duration")]
    pub refresh: Duration,
    /// How often each replica's health is checked. Default 5 s; a failed connection is noticed at once anyway.
    #[serde(with = "crate::duration")]
    pub health_interval: Duration,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            timeout: Duration::from_secs(5),
            stream_timeout: Duration::from_secs(3600),
            refresh: Duration::from_secs(5),
            health_interval: Duration::from_secs(5),
        }
    }
}

impl Peer {
    /// A service at these addresses, with the defaults for the rest.
    pub fn at<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Whether there is anything to call.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        !self.addresses.is_empty()
    }
}
