//! What a call is decided by: routes, pools, limits. One immutable table, read once per call, swapped whole by a reload.
//!
//! A call keeps what it took from the table it began with, however many come after. What is shared by all of them are
//! the backends of a pool, with their health, their counters and what was changed by RPC, and the counts of calls in
//! flight.

mod entry;
mod models;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use weft_mesh::{identity::Signer, methods::Methods};
use weft_runtime::{Scope, config::Lifecycle};

use crate::{
    auth::{Auth, Fetcher},
    config::{self, Config},
    forward::{Bounds, Lane, Way},
    gate::{Gate, Shares},
    metrics::Durations,
    rate::{Limits, Rates},
    route::{Routes, Rule, View},
};

pub use entry::Entry;
use models::{pool_of, with_servers};

/// One version of everything that may change while the gateway runs.
pub(crate) struct Table {
    /// 1 at the start.
    pub(crate) version: u64,
    /// All pools by name.
    pub(crate) pools: BTreeMap<String, Arc<Entry>>,
    /// The limits of client connections made from now on.
    pub(crate) lifecycle: Lifecycle,
    routes: Routes,
    /// Each thread's way for each rule of the routes, in their order.
    ways: Vec<Vec<Option<Way>>>,
    /// By the label of its route: how many calls are in flight on it.
    gates: BTreeMap<String, (Gate, Shares)>,
    /// When the calls so far came, as far as routes limit that.
    rates: Arc<Rates>,
    /// Who is believed to be whom.
    auth: Arc<Auth>,
    /// Who may call what.
    bounds: Arc<Bounds>,
    /// What it was made of.
    config: Config,
}

/// What all tables have from where they are.
struct Place {
    threads: usize,
    methods: Arc<Methods>,
    fetcher: Fetcher,
    signer: Option<Arc<Signer>>,
}

impl Table {
    fn first(config: &Config, place: &Place, scope: &Scope) -> Self {
        let start =
            |pool| Arc::new(Entry::start(pool, &config.nameservers, place.threads, &place.methods, scope));
        let pools = config.pools.iter().map(|pool| (pool.name.clone(), start(pool))).collect();
        let auth = Auth::new(&config.auth, &place.fetcher);
        Self::of(1, (pools, auth), (&BTreeMap::new(), &Arc::default()), config, place)
    }

    /// The next version. Pools that are in both keep their backends, and all they have if nothing about them changed.
    async fn next(&self, config: &Config, place: &Place, scope: &Scope) -> Self {
        let nameservers = &self.config.nameservers;
        // First all that has to be waited for, so that what follows is one step for all pools.
        for pool in &config.pools {
            if let Some(entry) = self.pools.get(&pool.name) {
                entry.prepare(pool).await;
            }
        }
        let auth = if self.auth.says(&config.auth) {
            Arc::clone(&self.auth)
        } else {
            let auth = Auth::after(Some(&self.auth), &config.auth, &place.fetcher);
            // What cannot be had now is fetched later, and said then.
            auth.follow().await;
            auth
        };
        let mut pools = BTreeMap::new();
        for pool in &config.pools {
            let entry = match self.pools.get(&pool.name) {
                Some(entry) if entry.config == *pool => Arc::clone(entry),
                Some(entry) => Arc::new(entry.reconfigured(pool, nameservers, scope)),
                None => Arc::new(Entry::start(pool, nameservers, place.threads, &place.methods, scope)),
            };
            pools.insert(pool.name.clone(), entry);
        }
        Self::of(self.version + 1, (pools, auth), (&self.gates, &self.rates), config, place)
    }

    fn of(
        version: u64,
        (pools, auth): (BTreeMap<String, Arc<Entry>>, Arc<Auth>),
        (before, rates): (&BTreeMap<String, (Gate, Shares)>, &Arc<Rates>),
        config: &Config,
        place: &Place,
    ) -> Self {
        let routes = Routes::new(&config.routes);
        let gate = |label: &String| before.get(label).cloned().unwrap_or_default();
        let rules = routes.rules().iter();
        let gates: BTreeMap<_, _> = rules.map(|rule| (rule.label.clone(), gate(&rule.label))).collect();
        let bounds = Arc::new(Bounds::new(config, Arc::clone(&auth), place.signer.clone()));
        let shared = Shared { pools: &pools, gates: &gates, rates, bounds: &bounds, config };
        let ways = |thread| routes.rules().iter().map(|rule| shared.way(rule, thread)).collect();
        let ways = (0..place.threads).map(ways).collect();
        let (lifecycle, config) = (config.lifecycle.clone(), config.clone());
        Self {
            version,
            pools,
            lifecycle,
            routes,
            ways,
            gates,
            rates: Arc::clone(rates),
            auth,
            bounds,
            config,
        }
    }

    /// Whether a configuration says the same in all that a table holds.
    fn says(&self, config: &Config) -> bool {
        let own = &self.config;
        (&own.pools, &own.routes, &own.lifecycle, &own.overload, &own.trusted_proxies, &own.auth)
            == (
                &config.pools,
                &config.routes,
                &config.lifecycle,
                &config.overload,
                &config.trusted_proxies,
                &config.auth,
            )
    }

    /// The service of Weft that a pool's backends are.
    pub(crate) fn audience(&self, pool: &config::Pool) -> Option<String> {
        self.config.audience(pool)
    }

    /// Who is believed to be whom.
    pub(crate) const fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }
}

/// What the ways of a table are made of.
struct Shared<'a> {
    pools: &'a BTreeMap<String, Arc<Entry>>,
    gates: &'a BTreeMap<String, (Gate, Shares)>,
    rates: &'a Arc<Rates>,
    bounds: &'a Arc<Bounds>,
    config: &'a Config,
}

impl Shared<'_> {
    /// One thread's way for a rule. Validation has seen to it that every route's pool is there.
    fn way(&self, rule: &Rule, thread: usize) -> Option<Way> {
        let bounds = Arc::clone(self.bounds);
        if rule.redirection.is_some() {
            return Some(Way::Redirect(Arc::new(rule.clone()), bounds));
        }
        let (config, pools) = (self.config, self.pools);
        let (gate, shares) = self.gates.get(&rule.label)?.clone();
        let audience = pools.get(&rule.pool).and_then(|pool| config.audience(&pool.config));
        let lane = Lane {
            rule: rule.clone(),
            target: pool_of(rule, &config.pools, pools)?.target(thread)?,
            // What names no model goes to the route's own pool, which may be one of model servers.
            catalogue: pools
                .get(&rule.pool)
                .filter(|_| rule.openai.is_some())
                .and_then(|pool| pool.catalogue()),
            audience: audience.map(Into::into),
            gate,
            shares,
            durations: Durations::default(),
            limits: Limits { limits: rule.rate_limits.clone(), rates: Arc::clone(self.rates) },
            bounds,
            servers: None,
        };
        Some(Way::Forward(with_servers(lane, &config.pools, pools, thread)))
    }
}

/// The table in force.
pub(crate) struct Tables {
    current: ArcSwap<Table>,
    place: Place,
}

impl Tables {
    /// The first table, for that many forwarding threads. Discovery and health checks begin.
    ///
    /// # Errors
    /// When there is no TLS to fetch keys with.
    pub(crate) fn start(
        config: &Config,
        threads: usize,
        methods: &Arc<Methods>,
        scope: &Scope,
    ) -> anyhow::Result<Arc<Self>> {
        let (methods, signer) = (Arc::clone(methods), scope.signer.clone());
        let place = Place { threads, methods, fetcher: Fetcher::new()?, signer };
        let first = Table::first(config, &place, scope);
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(first), place }))
    }

    /// The table as of now.
    pub(crate) fn load(&self) -> Arc<Table> {
        self.current.load_full()
    }

    /// The way of a call that one thread forwards: the only look that it takes at the table.
    pub(crate) fn way(&self, thread: usize, view: View<'_>) -> Option<Way> {
        let table = self.current.load();
        let rule = table.routes.find(view)?;
        table.ways.get(thread)?.get(rule)?.clone()
    }

    /// Whether a request leads to the same, and is allowed to the same, by another reading of its path.
    pub(crate) fn agree(&self, view: View<'_>, other: &str) -> bool {
        let table = self.current.load();
        let rules = &table.bounds.rules;
        table.routes.find(view) == table.routes.find(View { path: other, ..view })
            && rules.allowed(view.path, &[]) == rules.allowed(other, &[])
    }

    /// Puts a configuration, which is valid, into force. One at a time: the caller sees to it. Returns the table in
    /// force, and whether it is a new one.
    pub(crate) async fn apply(&self, config: &Config, scope: &Scope) -> (Arc<Table>, bool) {
        let before = self.load();
        if before.says(config) {
            return (before, false);
        }
        let next = Arc::new(before.next(config, &self.place, scope).await);
        self.current.store(Arc::clone(&next));
        for gone in before.pools.iter().filter(|(name, _)| !next.pools.contains_key(*name)) {
            gone.1.retire();
        }
        (next, true)
    }
}
