//! `GET /health` on a connection that is kept.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;
use weft_balance::Health;
use weft_mesh::{pool::Settings, probe::Check};
use weft_testkit::eventually;

use crate::{Fixture, SOON, server::Backend, settings};

fn http() -> Settings {
    let check = Check::Http { path: "/health".to_owned() };
    Settings { interval: Duration::from_millis(50), ..settings(check) }
}

#[tokio::test]
async fn answers_decide_by_the_thresholds_on_one_connection() {
    let backend = Backend::start().await;
    let fixture = Fixture::checked(backend.address, http());
    for (status, health) in [(200, Health::Healthy), (503, Health::Unhealthy), (204, Health::Healthy)] {
        backend.status.store(status, Ordering::Relaxed);
        fixture.until_health(health).await;
    }
    // Each failed check closed its connection; those that pass share one.
    let connections = backend.counts.of(|counts| &counts.connections);
    let checks = backend.counts.of(|counts| &counts.checks);
    eventually(SOON, || async { backend.counts.of(|counts| &counts.checks) >= checks + 5 }).await;
    assert_eq!(backend.counts.of(|counts| &counts.connections), connections);
    assert_eq!(backend.authority(), backend.address.to_string());
}

/// A server may close a connection after each answer, or whenever it has been idle.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_no_failed_check() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&answered);
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let thresholds = weft_balance::Thresholds { healthy: 100, unhealthy: 1 };
    let fixture = Fixture::checked(address, Settings { thresholds, ..http() });
    eventually(SOON, || async { answered.load(Ordering::Relaxed) >= 5 }).await;
    assert_eq!(fixture.health(), Health::Healthy);
}
