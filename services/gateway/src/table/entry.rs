//! A pool as the table has it: its backends, what runs for it, and each thread's connections to it.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_balance::Thresholds;
use weft_mesh::{
    discovery::{self, Discovery, Sources},
    methods::Methods,
    pool::{Pool, Protocol, Settings},
    probe::{self, Check},
    tls::ClientTls,
    upstream::Upstream,
};
use weft_runtime::Scope;

use crate::{
    config::{self, HealthKind},
    forward::{Metered, Target},
    openai::Catalogue,
};

/// A pool with what the gateway knows of it beyond its backends.
pub struct Entry {
    /// Its backends, shared with every worker.
    pub pool: Arc<Pool>,
    /// As configured.
    pub config: config::Pool,
    /// One for each thread: its connections, and what calls over them need.
    upstreams: Vec<Arc<Upstream<Metered>>>,
    targets: Vec<Arc<Target>>,
    /// Finds its backends.
    pub discovery: Discovery,
    finding: Arc<Background>,
    probes: Arc<Background>,
    /// What it serves, if its servers have models.
    listing: Option<(Arc<Background>, Arc<Catalogue>)>,
}

impl Entry {
    /// A new pool. Discovery and health checks begin.
    pub(super) fn start(
        config: &config::Pool,
        nameservers: &[SocketAddr],
        threads: usize,
        methods: &Methods,
        scope: &Scope,
    ) -> Self {
        let pool = Pool::new(settings(config), methods);
        let upstreams = connect(&pool, threads, scope);
        let (finding, discovery) = discover(&pool, config, nameservers, scope);
        Self {
            targets: targets(&upstreams, config),
            upstreams,
            discovery,
            finding,
            probes: probe(&pool, scope),
            listing: list(&pool, config, None, scope),
            pool,
            config: config.clone(),
        }
    }

    /// Ends what must have ended before the pool is [`reconfigured`](Self::reconfigured): two that look for backends at
    /// once would overwrite each other's list.
    pub(super) async fn prepare(&self, config: &config::Pool) {
        if self.looks_elsewhere(config) {
            self.finding.end().await;
        }
    }

    fn looks_elsewhere(&self, config: &config::Pool) -> bool {
        let looks = |pool: &config::Pool| (pool.backends.clone(), pool.backends_file.clone(), pool.refresh);
        looks(&self.config) != looks(config)
    }

    /// The same pool, configured otherwise. Its backends stay, and so does what the difference does not touch:
    /// connections unless they would speak another protocol, discovery unless it would look for others, checks unless
    /// they would ask otherwise.
    pub(super) fn reconfigured(
        &self,
        config: &config::Pool,
        nameservers: &[SocketAddr],
        scope: &Scope,
    ) -> Self {
        let pool = Arc::clone(&self.pool);
        let (before, mut after) = (pool.settings(), settings(config));
        let same_protocol = (before.protocol, &before.tls) == (after.protocol, &after.tls);
        if same_protocol {
            // With what its files hold now, and what has been made of it.
            after.tls.clone_from(&before.tls);
        }
        let asks = |settings: &Settings| {
            (settings.check.clone(), settings.authority.clone(), settings.interval, settings.timeout)
        };
        let same_checks = same_protocol && asks(&before) == asks(&after);
        pool.configure(after);
        let probes = if same_checks {
            Arc::clone(&self.probes)
        } else {
            self.probes.stop.cancel();
            probe(&pool, scope)
        };
        let (finding, discovery) = if self.looks_elsewhere(config) {
            discover(&pool, config, nameservers, scope)
        } else {
            (Arc::clone(&self.finding), self.discovery.clone())
        };
        let listing = if same_protocol && self.config.models == config.models {
            self.listing.clone()
        } else {
            self.stop_listing();
            list(&pool, config, self.catalogue().as_deref(), scope)
        };
        let upstreams =
            if same_protocol { self.upstreams.clone() } else { connect(&pool, self.upstreams.len(), scope) };
        Self {
            targets: targets(&upstreams, config),
            upstreams,
            discovery,
            finding,
            probes,
            listing,
            pool,
            config: config.clone(),
        }
    }

    /// The pool is configured no more: nobody looks for its backends or checks them. Calls in flight run to their end.
    pub(super) fn retire(&self) {
        self.finding.stop.cancel();
        self.probes.stop.cancel();
        self.stop_listing();
    }

    fn stop_listing(&self) {
        if let Some((asking, _)) = &self.listing {
            asking.stop.cancel();
        }
    }

    /// What it serves, if its servers have models.
    pub(crate) fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.listing.as_ref().map(|(_, catalogue)| Arc::clone(catalogue))
    }

    /// What one thread forwards to.
    pub(crate) fn target(&self, thread: usize) -> Option<Arc<Target>> {
        self.targets.get(thread).cloned()
    }
}

fn connect(pool: &Arc<Pool>, threads: usize, scope: &Scope) -> Vec<Arc<Upstream<Metered>>> {
    (0..threads).map(|_| Arc::new(Upstream::new(Arc::clone(pool), scope.tasks.clone()))).collect()
}

fn targets(upstreams: &[Arc<Upstream<Metered>>], config: &config::Pool) -> Vec<Arc<Target>> {
    upstreams.iter().map(|upstream| Arc::new(Target::new(Arc::clone(upstream), config))).collect()
}

fn discover(
    pool: &Arc<Pool>,
    config: &config::Pool,
    nameservers: &[SocketAddr],
    scope: &Scope,
) -> (Arc<Background>, Discovery) {
    let backends = config.backends.iter();
    let sources = Sources {
        targets: backends
            .map(|b| discovery::Target { address: b.address.clone(), weight: b.weight, tier: b.tier })
            .collect(),
        file: config.backends_file.clone(),
        refresh: config.refresh,
        nameservers: nameservers.to_vec(),
    };
    Background::start(scope, |tasks, stop| discovery::start(pool, sources, tasks, stop))
}

fn probe(pool: &Arc<Pool>, scope: &Scope) -> Arc<Background> {
    Background::start(scope, |tasks, stop| probe::start(pool, tasks, stop)).0
}

fn list(
    pool: &Arc<Pool>,
    config: &config::Pool,
    before: Option<&Catalogue>,
    scope: &Scope,
) -> Option<(Arc<Background>, Arc<Catalogue>)> {
    let models = config.models.as_ref()?;
    Some(Background::start(scope, |tasks, stop| {
        Catalogue::start(pool, models, before, (tasks, stop), &scope.tasks)
    }))
}

/// Tasks that run for a pool and can be ended before everything ends.
struct Background {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    fn start<T>(scope: &Scope, run: impl FnOnce(&TaskTracker, CancellationToken) -> T) -> (Arc<Self>, T) {
        let background = Arc::new(Self { stop: scope.draining.child_token(), tasks: TaskTracker::new() });
        let started = run(&background.tasks, background.stop.clone());
        let ended = Arc::clone(&background);
        scope.tasks.spawn(async move {
            ended.stop.cancelled().await;
            ended.end().await;
        });
        (background, started)
    }

    /// Ends them, and returns when they have.
    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn settings(config: &config::Pool) -> Settings {
    let protocol = match config.protocol {
        config::Protocol::Grpc => Protocol::Grpc,
        config::Protocol::Http => Protocol::Http,
    };
    let health = &config.health;
    let kind = health.kind.unwrap_or(match config.protocol {
        config::Protocol::Grpc => HealthKind::Grpc,
        config::Protocol::Http => HealthKind::Http,
    });
    Settings {
        name: config.name.clone(),
        protocol,
        tls: config.tls.clone().map(|tls| Arc::new(ClientTls::new(tls))),
        check: match kind {
            HealthKind::Grpc => Check::Grpc { service: health.service.clone() },
            HealthKind::Http => Check::Http { path: health.path.clone() },
            HealthKind::Tcp => Check::Tcp,
            HealthKind::None => Check::None,
        },
        authority: health.authority.clone(),
        interval: health.interval,
        timeout: health.timeout,
        ping_interval: Some(config.ping_interval).filter(|interval| !interval.is_zero()),
        thresholds: Thresholds { healthy: health.healthy_threshold, unhealthy: health.unhealthy_threshold },
        balance: config.balance_settings(),
        retry: config.retry.policy(),
        budget: config.retry.budget(),
        waiting: config.waiting(),
    }
}
