//! Where calls go, as the table has it for one thread, and what holds for them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use weft_mesh::{identity::Signer, upstream::Upstream};

use super::Metered;
use crate::{
    auth::{Auth, Rules},
    config::{self, Config, HashOn, Overload, Protocol},
    gate::{Gate, Shares},
    metrics::Durations,
    openai::{Catalogue, Servers},
    rate,
    route::Rule,
};

/// A pool as one forwarding thread has it.
pub(crate) struct Target {
    pub(super) upstream: Arc<Upstream<Metered>>,
    pub(super) protocol: Protocol,
    pub(super) timeout: Duration,
    hash_on: Option<HashOn>,
    /// Zero for any.
    max_stream_age: Duration,
}

impl Target {
    pub(crate) fn new(upstream: Arc<Upstream<Metered>>, config: &config::Pool) -> Self {
        let hash_on = config.hash_on.as_deref().and_then(HashOn::parse);
        Self {
            upstream,
            protocol: config.protocol,
            timeout: config.timeout,
            hash_on,
            max_stream_age: config.max_stream_age,
        }
    }

    /// When a stream that begins now ends here: after its age, a tenth more or less.
    pub(super) fn stream_ends(&self, now: Instant) -> Option<Instant> {
        let age = self.max_stream_age;
        let jittered = age.mul_f64(0.2f64.mul_add(fastrand::f64(), 0.9));
        if age.is_zero() { None } else { now.checked_add(jittered) }
    }

    /// What keeps this call together with others like it.
    pub(super) fn key(&self, headers: &HeaderMap) -> Option<u64> {
        self.hash_on.as_ref().and_then(|on| on.value(headers)).map(weft_balance::hash)
    }
}

/// What becomes of the calls of a route.
#[derive(Clone)]
pub(crate) enum Way {
    /// They are forwarded.
    Forward(Arc<Lane>),
    /// They are sent elsewhere.
    Redirect(Arc<Rule>, Arc<Bounds>),
}

/// Where the calls of a route are forwarded to, and what holds for them.
pub(crate) struct Lane {
    pub(crate) rule: Rule,
    pub(crate) target: Arc<Target>,
    /// What its backends are asked with, where they are model servers.
    pub(crate) catalogue: Option<Arc<Catalogue>>,
    /// The service of Weft that its backends are.
    pub(crate) audience: Option<Arc<str>>,
    /// Counts the route's calls on all threads.
    pub(crate) gate: Gate,
    /// And each caller's.
    pub(crate) shares: Shares,
    pub(crate) durations: Durations,
    /// How many of its calls may come in a time.
    pub(crate) limits: rate::Limits,
    pub(crate) bounds: Arc<Bounds>,
    /// Where its calls go by the model that they name, on a route with the API of OpenAI.
    pub(crate) servers: Option<Arc<Servers>>,
}

impl Lane {
    /// Lets a web page of another origin read an answer, where the route says who may.
    pub(super) fn admit_page(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Some(cors) = &self.rule.cors {
            cors.admit(headers, origin);
        }
    }
}

/// What holds for the calls of all routes together.
pub(crate) struct Bounds {
    pub(super) max_in_flight: usize,
    pub(super) overload: Overload,
    /// Proxies whose word counts.
    pub(super) trusted: Vec<IpNet>,
    /// Who is believed to be whom.
    pub(super) auth: Arc<Auth>,
    /// Who may call what.
    pub(crate) rules: Rules,
    /// Tells services who calls.
    pub(super) signer: Option<Arc<Signer>>,
}

impl Bounds {
    pub(crate) fn new(config: &Config, auth: Arc<Auth>, signer: Option<Arc<Signer>>) -> Self {
        Self {
            rules: Rules::new(&config.auth, &config.routes),
            auth,
            signer,
            max_in_flight: config.lifecycle.max_in_flight,
            overload: config.overload.clone(),
            trusted: config.trusted_proxies.iter().filter_map(|proxy| config::network(proxy)).collect(),
        }
    }
}
