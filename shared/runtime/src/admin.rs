//! The admin port, and the health and reflection services that every port has.

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};

use crate::{
    assembly::{Scope, mount},
    telemetry,
};

/// Adds `grpc.health.v1`, reflection and `GET /health` to a port.
pub(crate) async fn with_health(router: Router, names: &[&'static str], scope: &Scope) -> Router {
    let (reporter, server) = health_reporter();
    let mut served: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    served.extend([String::new(), "readiness".to_owned()]);
    reporter.set_service_status("liveness", ServingStatus::Serving).await;
    report(&reporter, &served, false).await;
    scope.tasks.spawn(follow(reporter, served, scope.clone()));
    let router = mount(router, server);
    let router = reflection(router);
    let state = scope.clone();
    router.route("/health", get(move || ready(state.clone())))
}

fn reflection(router: Router) -> Router {
    let built = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(weft_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match built {
        Ok(server) => mount(router, server),
        Err(error) => {
            tracing::error!(%error, "reflection is not served");
            router
        }
    }
}

/// Tells health watchers what readiness says, and that a draining process serves no more.
async fn follow(reporter: HealthReporter, names: Vec<String>, scope: Scope) {
    let mut changes = scope.ready.subscribe();
    loop {
        let ready = changes.borrow_and_update().is_ok() && !scope.draining.is_cancelled();
        report(&reporter, &names, ready).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = scope.draining.cancelled() => {
                report(&reporter, &names, false).await;
                return;
            }
            () = scope.stopping.cancelled() => return,
        }
    }
}

async fn report(reporter: &HealthReporter, names: &[String], serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}

/// The probes and metrics of the admin port.
pub(crate) fn routes(scope: &Scope) -> Router {
    let state = scope.clone();
    Router::new()
        .route("/livez", get(|| async { Json(json!({ "status": "alive" })) }))
        .route("/readyz", get(move || ready(state.clone())))
        .route("/metrics", get(metrics))
}

async fn ready(scope: Scope) -> Response {
    let state = if scope.draining.is_cancelled() { Err("draining".to_owned()) } else { scope.ready.get() };
    match state {
        Ok(()) => Json(json!({ "status": "serving" })).into_response(),
        Err(reason) => {
            let body = json!({ "status": "not serving", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn metrics() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::prometheus_text())
        .into_response()
}
