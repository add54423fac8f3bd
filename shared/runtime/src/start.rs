//! One running service: started from a configuration and its listeners, stopped in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    Authenticate, Config, Listeners,
    access::Guard,
    admin::{routes, with_health},
    assembly::{Accept, Assembly, Scope, Service},
    call::{Calls, unknown},
    config::Lifecycle,
    metrics::Metrics,
    readiness::{DRAINING, Readiness},
    serve::{Served, accept},
};

/// How long tasks may take to end after a hard stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long clients have to be told that the calls left at the end of the drain timeout are over.
const END_TIMEOUT: Duration = Duration::from_millis(500);
/// How long health watchers have, at the least, to be told before their streams end.
const TELL_TIME: Duration = Duration::from_millis(20);
/// Connections to the admin port at once: probes, scrapes and a few people.
const ADMIN_CONNECTIONS: usize = 256;

/// Makes ring the TLS provider of the process, for HTTPS clients (model providers, S3). Called again, it changes nothing.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A service that is serving.
#[derive(Debug)]
pub struct Running {
    /// Where it takes calls: its first address.
    pub address: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    /// Its name.
    pub name: &'static str,
    scope: Scope,
    lifecycle: Lifecycle,
}

/// Starts a service on listeners that are bound already. It serves when this returns, ready or not.
///
/// # Errors
/// When the service cannot be assembled.
pub async fn start<S: Service>(config: S::Config, listeners: Listeners) -> anyhow::Result<Running> {
    install_tls_provider();
    let signer = config.identity().signer(&format!("weft-{}", S::NAME)).context("identity")?;
    let scope = Scope { signer: signer.map(Arc::new), ..Scope::default() };
    let verifier = config.identity().verifier(S::NAME).context("identity")?;
    let verifier = verifier.map(|verifier| -> Arc<dyn Authenticate> { Arc::new(verifier) });
    let metrics_are_public = !config.admin().authenticate_metrics;
    let lifecycle = config.lifecycle().clone();
    let admin = listeners.admin.local_addr()?;
    let address = listeners.address().unwrap_or(admin);
    let metrics = Metrics::new(S::NAME);
    let assembly = S::assemble(config, scope.clone()).await?;
    let guard = Guard::public(verifier.clone(), &assembly.names);
    let acceptor = public(&assembly, guard, &scope, &lifecycle, &metrics).await;
    let permits = Arc::new(Semaphore::new(lifecycle.max_connections.min(Semaphore::MAX_PERMITS)));
    for listener in listeners.public.into_iter().enumerate() {
        scope.work.spawn(accept(listener, Arc::clone(&acceptor), Arc::clone(&permits), scope.clone()));
    }
    let router = with_health(assembly.admin.merge(routes(&scope)), &assembly.names, &scope).await;
    let guard = Guard::admin(assembly.operators.or(verifier), metrics_are_public);
    let acceptor = serving((router, guard), &scope, &lifecycle, &metrics);
    scope.work.spawn(accept(
        (0, listeners.admin),
        acceptor,
        Arc::new(Semaphore::new(ADMIN_CONNECTIONS)),
        scope.clone(),
    ));
    tracing::info!(service = S::NAME, %address, %admin, "serving");
    Ok(Running { address, admin, name: S::NAME, scope, lifecycle })
}

async fn public(
    assembly: &Assembly,
    guard: Guard,
    scope: &Scope,
    lifecycle: &Lifecycle,
    metrics: &Metrics,
) -> Arc<dyn Accept> {
    if let Some(acceptor) = &assembly.acceptor {
        return Arc::clone(acceptor);
    }
    let router = with_health(assembly.public.clone(), &assembly.names, scope).await;
    serving((router, guard), scope, lifecycle, metrics)
}

fn serving(
    (router, guard): (Router, Guard),
    scope: &Scope,
    lifecycle: &Lifecycle,
    metrics: &Metrics,
) -> Arc<dyn Accept> {
    let calls = Calls::new(
        (router.fallback(unknown), guard),
        lifecycle.max_in_flight,
        metrics.clone(),
        scope.draining.clone(),
    );
    Arc::new(Served::new(calls, scope, lifecycle, metrics.clone()))
}

impl Running {
    /// Whether its backend can be used.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        self.scope.ready.get()
    }

    /// Whether its backend can be used, as it changes.
    #[must_use]
    pub const fn readiness(&self) -> &Readiness {
        &self.scope.ready
    }

    /// Returns when it is ready.
    pub async fn wait_ready(&self) {
        self.scope.ready.wait().await;
    }

    /// Asks it to read its configuration again, if it can.
    pub fn reload(&self) {
        self.scope.reload.notify_one();
    }

    /// Stops in order: unready and still serving for the drain delay, then GOAWAY, then until every call has ended or
    /// the drain timeout is over; those that are left are ended with UNAVAILABLE.
    pub async fn stop(self) {
        self.scope.ready.set(Err(DRAINING.to_owned()));
        sleep(self.lifecycle.drain_delay.max(TELL_TIME)).await;
        self.scope.draining.cancel();
        self.scope.work.close();
        if timeout(self.lifecycle.drain_timeout, self.scope.work.wait()).await.is_err() {
            tracing::warn!(
                service = self.name,
                open = self.scope.work.len(),
                "drain timeout is over, stopping"
            );
            self.scope.ending.cancel();
            let _ = timeout(END_TIMEOUT, self.scope.work.wait()).await;
        }
        self.scope.stopping.cancel();
        self.scope.tasks.close();
        let ended = async { tokio::join!(self.scope.work.wait(), self.scope.tasks.wait()) };
        if timeout(STOP_TIMEOUT, ended).await.is_err() {
            let open = self.scope.work.len() + self.scope.tasks.len();
            tracing::warn!(service = self.name, open, "tasks did not stop");
        }
        tracing::info!(service = self.name, "stopped");
    }
}
