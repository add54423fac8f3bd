//! Active checks by their answers, and backends found by name.

use std::time::Duration;

use weft_gateway::HealthKind;
use weft_proto::gateway::v1::Health;
use weft_runtime::Running;
use weft_testkit::eventually;

use crate::{admin::pools, backend::TestBackend, gateway_with};

pub(crate) async fn health(gateway: &Running, pool: &str) -> Vec<Health> {
    let pools = pools(gateway).await;
    let pool = pools.iter().find(|p| p.name == pool).unwrap();
    pool.backends.iter().map(|backend| backend.health()).collect()
}

async fn follows_the_checks(kind: HealthKind, pool: &str) {
    let backend = TestBackend::start().await;
    let both = [backend.address];
    let gateway = gateway_with(&both, &both, kind).await;
    for (says, expected) in [(true, Health::Healthy), (false, Health::Unhealthy), (true, Health::Healthy)] {
        backend.set_healthy(says);
        let reached = || async { health(&gateway, pool).await == [expected] };
        eventually(Duration::from_secs(10), reached).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn grpc_checks_decide() {
    follows_the_checks(HealthKind::Grpc, "echo").await;
}

#[tokio::test]
async fn http_checks_decide() {
    follows_the_checks(HealthKind::Http, "web").await;
}

#[tokio::test]
async fn a_backend_without_a_health_service_counts_as_healthy() {
    let cache = weft_runtime_without_health().await;
    let gateway = gateway_with(&[cache], &[], HealthKind::Grpc).await;
    let reached = || async { health(&gateway, "echo").await == [Health::Healthy] };
    eventually(Duration::from_secs(10), reached).await;
    gateway.stop().await;
}

/// A gRPC server that knows no service at all.
async fn weft_runtime_without_health() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio_util::task::TaskTracker::new().spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let answer = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "12")
                        .body(())
                        .unwrap();
                    respond.send_response(answer, true).unwrap();
                }
            });
        }
    });
    address
}
