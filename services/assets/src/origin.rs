//! Origins: files of other servers, fetched once, kept, and delivered as a shared cache does (RFC 9111).
//!
//! What is kept of an origin is what it gives to a stranger: a fetch carries no cookie, no credentials, and no header of a
//! client but those that the origin's `Vary` has named. It is kept if it is 200, whole, of a media type that the path can
//! have, and the origin does not forbid it; everything else goes through to the client who asked.
//!
//! A request reaches the configured server and no other: its path and query are put below the configured URL, and
//! redirects are passed on, not followed. Whatever fails between here and the store costs a fetch, never an answer.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{extract::Request, response::Response};
use http::{Method, header};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_runtime::Scope;

mod answer;
pub mod cacheable;
pub mod client;
pub mod directives;
mod fetch;
pub mod flight;
pub mod freshness;
pub mod hashed;
pub mod headers;
pub mod index;
pub mod marks;
pub mod object;
mod pass;
mod reply;
pub mod store;
pub mod target;
pub mod vary;

pub use reply::Served;

use self::{
    client::Client,
    directives::Directives,
    fetch::Outcome,
    flight::Flights,
    freshness::Rules,
    marks::Marks,
    reply::Why,
    store::Store,
    target::{NoTarget, Target},
};
use crate::{
    catalog::Catalog,
    config::{Config, Immutable, OriginConfig},
    metrics::Metrics,
    storage::Storage,
};

/// Fetches of one origin at a time; further ones wait, for as long as one may take. Bounds what is held of them, and what
/// an origin has to bear.
const MAX_FETCHES: usize = 128;

/// All origins. Clones are the same.
#[derive(Debug, Clone)]
pub struct Origins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sites: Vec<Arc<Site>>,
    store: Store,
    flights: Flights<Outcome>,
    marks: Marks,
    spool: PathBuf,
    metrics: Metrics,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// One origin.
#[derive(Debug)]
struct Site {
    config: OriginConfig,
    base: reqwest::Url,
    client: Client,
    /// Its own, so that one that hangs keeps no other from being asked.
    seats: Semaphore,
}

impl Origins {
    /// The configured origins, keeping what they give in `storage`. Starts the work beside the requests.
    ///
    /// # Errors
    /// When a URL is none or TLS cannot be had.
    pub fn new(
        config: &Config,
        catalog: &Catalog,
        storage: Arc<dyn Storage>,
        scope: &Scope,
    ) -> anyhow::Result<Self> {
        let sites = config.origins.iter().map(|origin| Site::new(origin).map(Arc::new));
        let mut sites = sites.collect::<anyhow::Result<Vec<_>>>()?;
        // The longest prefix counts, and one for a certain host before one for any.
        sites.sort_by_key(|site| {
            (std::cmp::Reverse(site.config.path_prefix.len()), site.config.host.is_empty())
        });
        let metrics = catalog.metrics().clone();
        let max_bytes = config.origin_cache.max_total_bytes;
        let store =
            Store::new(storage, catalog.memory().clone(), metrics.clone(), scope.work.clone(), max_bytes);
        if !sites.is_empty() {
            let pool = catalog.pool().clone();
            scope.tasks.spawn(store.clone().precompress(pool, scope.stopping.clone()));
            let (every, age) = (config.origin_cache.sweep_interval, config.storage.orphan_age);
            scope.tasks.spawn(sweep(store.clone(), metrics.clone(), every, age, scope.stopping.clone()));
            metrics.watch_origins(store.meter());
        }
        Ok(Self(Arc::new(Inner {
            sites,
            store,
            flights: Flights::default(),
            marks: Marks::default(),
            spool: catalog.spool().to_owned(),
            metrics,
            tasks: scope.tasks.clone(),
            stopping: scope.stopping.clone(),
        })))
    }

    /// The prefixes of all, each once.
    #[must_use]
    pub fn prefixes(&self) -> Vec<&str> {
        let mut prefixes: Vec<&str> = self.0.sites.iter().map(|site| &*site.config.path_prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }

    /// Whether a request is for one of them.
    #[must_use]
    pub fn has(&self, request: &Request) -> bool {
        self.0.site(request).is_some()
    }

    /// Answers a request: from what is kept, or by its origin.
    pub async fn serve(&self, request: Request) -> Response {
        let inner = &self.0;
        let (site, target) = match inner.target(&request) {
            Ok(found) => found,
            Err(problem) => {
                inner.metrics.origin_answered(Served::Error);
                return reply::no_target(problem);
            }
        };
        if let Some(why) = not_for_a_cache(&request) {
            return inner.pass(&site, &target, request, why).await;
        }
        let (parts, body) = request.into_parts();
        match inner.answer(&site, &target, &parts).await {
            Ok((response, served)) => {
                inner.metrics.origin_answered(served);
                response
            }
            Err(why) => inner.pass(&site, &target, Request::from_parts(parts, body), why).await,
        }
    }
}

impl Site {
    fn new(config: &OriginConfig) -> anyhow::Result<Self> {
        let what = || format!("the origin of {}", config.path_prefix);
        let base = config.upstream().context("its URL is none").with_context(what)?;
        let client = Client::new(config).with_context(what)?;
        Ok(Self { config: config.clone(), base, client, seats: Semaphore::new(MAX_FETCHES) })
    }

    /// What the operator says of the responses at a path.
    fn rules(&self, target: &Target) -> Rules {
        Rules {
            default_ttl: self.config.default_ttl,
            stale_if_error: self.config.stale_if_error,
            stale_while_revalidate: self.config.stale_while_revalidate,
            immutable: match self.config.immutable {
                Immutable::Always => true,
                Immutable::Never => false,
                // With a query it is no plain file.
                Immutable::Hashed => target.url.query().is_none() && hashed::is_hashed(&target.path),
            },
        }
    }
}

impl Inner {
    fn site(&self, request: &Request) -> Option<&Arc<Site>> {
        let host = target::host(request.uri(), request.headers());
        self.sites.iter().find(|site| {
            let config = &site.config;
            target::is_below(&config.path_prefix, request.uri().path())
                && (config.host.is_empty() || config.host.eq_ignore_ascii_case(&host))
        })
    }

    /// Which origin a request is for, and what of it.
    fn target(&self, request: &Request) -> Result<(Arc<Site>, Target), NoTarget> {
        let site = self.site(request).ok_or(NoTarget::Unknown)?;
        if headers::goes_in_a_circle(request.headers()) {
            return Err(NoTarget::Loop);
        }
        let path = target::normalize(request.uri().path())?;
        let url = target::upstream(&site.base, &path, request.uri().query())?;
        Ok((site.clone(), Target { path, url }))
    }
}

/// Why a request is none for a cache.
fn not_for_a_cache(request: &Request) -> Option<Why> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(Why::Method);
    }
    let personal = request.headers().contains_key(header::AUTHORIZATION);
    (personal || Directives::of(request.headers()).no_store).then_some(Why::Request)
}

/// Compares what is known with the store now and then.
async fn sweep(store: Store, metrics: Metrics, every: Duration, age: Duration, stopping: CancellationToken) {
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = stopping.cancelled() => return,
        }
        let swept = tokio::select! {
            swept = store.sweep(age) => swept,
            () = stopping.cancelled() => return,
        };
        match swept {
            Ok(0) => {}
            Ok(objects) => metrics.swept(objects),
            Err(error) => tracing::debug!(%error, "sweep of what is kept of origins put off"),
        }
    }
}
