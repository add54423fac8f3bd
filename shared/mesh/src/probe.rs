//! Active health checks: one task per backend that asks, waits and asks again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use weft_balance::{Backend, Health};

use crate::{
    link::{Tasks, connect},
    pool::Pool,
};

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `grpc.health.v1.Health/Check` of a service; the empty name asks for the whole server. A server without a health
    /// service answers UNIMPLEMENTED and counts as healthy (gRFC A17).
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
    /// Nothing: backends are healthy until a call fails to connect, and again a second later.
    None,
}

/// How soon a backend that is down is asked again, unless the interval is shorter.
const RECHECK: Duration = Duration::from_millis(500);

/// Checks the backends of a pool, as they come and go, until `stopping`.
pub fn start(pool: &Arc<Pool>, tasks: &TaskTracker, stopping: CancellationToken) {
    let (pool, probes) = (Arc::clone(pool), tasks.clone());
    tasks.spawn(async move {
        let mut running: HashMap<String, CancellationToken> = HashMap::new();
        loop {
            let disturbed = pool.disturbed.notified();
            let list = pool.backends.list();
            running.retain(|address, stop| {
                let stays = list.iter().any(|backend| backend.address() == address);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for backend in list.iter() {
                if !running.contains_key(backend.address()) {
                    let stop = stopping.child_token();
                    running.insert(backend.address().to_owned(), stop.clone());
                    probes.spawn(watch(Arc::clone(&pool), Arc::clone(backend), probes.clone(), stop));
                }
            }
            tokio::select! {
                () = disturbed => {}
                // A list that changed between the look and the wait is seen a second later.
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stopping.cancelled() => return,
            }
        }
    });
}

async fn watch(pool: Arc<Pool>, backend: Arc<Backend>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = ask(&pool, &backend, &tasks) => {}
            () = stop.cancelled() => return,
        }
        let asked = Instant::now();
        loop {
            let interval = pool.settings.interval;
            let wait = if backend.health() == Health::Healthy { interval } else { interval.min(RECHECK) };
            // ±10 %, so that the checks of many gateways do not come together.
            let due = asked + wait.mul_f64(fastrand::f64().mul_add(0.2, 0.9));
            tokio::select! {
                () = sleep_until(due) => break,
                () = pool.disturbed.notified() => if backend.take_suspicion() { break },
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn ask(pool: &Pool, backend: &Backend, tasks: &TaskTracker) {
    let settings = &pool.settings;
    let result = match timeout(settings.timeout, check(&settings.check, backend.address(), tasks)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer to the health check within {:?}", settings.timeout)),
    };
    let reason = result.as_ref().err().cloned().unwrap_or_default();
    let now = std::time::Instant::now();
    match backend.checked(result, now) {
        Some(Health::Healthy) => {
            tracing::info!(pool = pool.name(), backend = backend.address(), "backend is healthy");
        }
        Some(_) => {
            tracing::warn!(pool = pool.name(), backend = backend.address(), reason, "backend is unhealthy");
        }
        None => {}
    }
}

async fn check(check: &Check, address: &str, tasks: &TaskTracker) -> Result<(), String> {
    match check {
        Check::None => Ok(()),
        Check::Tcp => connect(address).await.map(drop).map_err(|error| error.to_string()),
        Check::Http { path } => check_http(address, path, tasks).await,
        Check::Grpc { service } => check_grpc(address, service, tasks).await,
    }
}

async fn check_http(address: &str, path: &str, tasks: &TaskTracker) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| crate::error::chain(error);
    let stream = connect(address).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    tasks.spawn(connection);
    let request = Request::get(path)
        .header("host", address)
        .header("user-agent", "weft-health")
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        StatusCode::SERVICE_UNAVAILABLE => Err("says that it is not ready (503)".to_owned()),
        status => Err(format!("answered {status} to the health check")),
    }
}

async fn check_grpc(address: &str, service: &str, tasks: &TaskTracker) -> Result<(), String> {
    let stream = connect(address).await.map_err(|error| error.to_string())?;
    let handshake = http2::handshake(Tasks(tasks.clone()), TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|error| crate::error::chain(&error))?;
    tasks.spawn(connection);
    let origin =
        format!("http://{address}").parse().map_err(|_| "address is not a URI authority".to_owned())?;
    let sender = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let mut client = HealthClient::with_origin(sender, origin);
    match client.check(HealthCheckRequest { service: service.to_owned() }).await {
        Ok(response) if response.get_ref().status == ServingStatus::Serving as i32 => Ok(()),
        Ok(response) => {
            let status = ServingStatus::try_from(response.get_ref().status);
            Err(format!("says {}", status.map_or("UNKNOWN", |status| status.as_str_name())))
        }
        Err(status) => verdict(&status),
    }
}

fn verdict(status: &Status) -> Result<(), String> {
    match status.code() {
        Code::Unimplemented => Ok(()),
        Code::NotFound => Err("does not know the checked service".to_owned()),
        code => Err(format!("answered {code:?} to the health check: {}", status.message())),
    }
}
