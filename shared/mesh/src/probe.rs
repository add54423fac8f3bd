//! Active health checks: one task per backend that asks, waits and asks again, and listens where the backend tells.
//!
//! A gRPC backend is watched: `grpc.health.v1.Health/Watch` on one connection kept open, whose every message counts at
//! once, confirmed by a `Check` every interval, because a process that hangs says nothing. Without `Watch` it is asked
//! by `Check`. HTTP checks keep their connection too; TCP checks are a connection, made anew each time.

mod backend;
mod grpc;
mod http;
mod schedule;
mod session;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::pool::Pool;

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `grpc.health.v1.Health` of a service; the empty name asks for the whole server. `Watch` where it is served, else
    /// `Check`; a server without a health service answers UNIMPLEMENTED and counts as healthy (gRFC A17). A backend
    /// that says NOT_SERVING is out at once, and back at once when it says SERVING again.
    Grpc {
        /// The service's name.
        service: String,
    },
    /// `GET` of a path; 2xx is healthy.
    Http {
        /// The path.
        path: String,
    },
    /// A connection.
    Tcp,
    /// Nothing: backends are healthy until a call fails to connect, and again half a second later.
    None,
}

/// Over how long the first checks of a pool are spread, at the most: `weft up` waits for them.
const SPREAD: Duration = Duration::from_millis(5);
/// How much of it each backend adds.
const SPREAD_PER_BACKEND: Duration = Duration::from_micros(100);

/// Checks the backends of a pool, as they come and go, until `stopping`.
pub fn start(pool: &Arc<Pool>, tasks: &TaskTracker, stopping: CancellationToken) {
    let (pool, probes) = (Arc::clone(pool), tasks.clone());
    tasks.spawn(async move {
        let mut running: HashMap<String, CancellationToken> = HashMap::new();
        loop {
            // Made before the look, it misses no change after it.
            let disturbed = pool.disturbed.notified();
            reconcile(&pool, &probes, &stopping, &mut running);
            tokio::select! {
                () = disturbed => {}
                () = stopping.cancelled() => return,
            }
        }
    });
}

/// Starts checks of the backends that came and ends those of the backends that went.
fn reconcile(
    pool: &Arc<Pool>,
    tasks: &TaskTracker,
    stopping: &CancellationToken,
    running: &mut HashMap<String, CancellationToken>,
) {
    let list = pool.backends.list();
    running.retain(|address, stop| {
        let stays = list.iter().any(|backend| backend.address() == address);
        if !stays {
            stop.cancel();
        }
        stays
    });
    let spread = SPREAD_PER_BACKEND.saturating_mul(list.len().try_into().unwrap_or(u32::MAX)).min(SPREAD);
    for backend in list.iter() {
        if !running.contains_key(backend.address()) {
            let stop = stopping.child_token();
            running.insert(backend.address().to_owned(), stop.clone());
            let delay = spread.mul_f64(fastrand::f64());
            let checks = backend::Checks::new(Arc::clone(pool), Arc::clone(backend), tasks);
            tasks.spawn(async move { stop.run_until_cancelled(checks.run(delay)).await });
        }
    }
}
