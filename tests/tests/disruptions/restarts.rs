//! Rolling restarts under load: three backends are restarted in turn, and then the gateway, and no call fails.
//!
//! Backends end as SIGTERM ends them: NOT_SERVING, GOAWAY, what is in flight goes on. The gateway is a process of its own
//! on a socket that outlives it, as a service manager passes it. Callers are tonic's own transport and Weft's channel,
//! half of the calls each, unary ones and streams; whatever a caller is told other than the whole answer is a failure.
//!
//! How much of it is told by `WEFT_TESTS_RESTARTS` (of all backends, in turn; default 1), `WEFT_TESTS_GATEWAY_RESTARTS`
//! (1), `WEFT_TESTS_CALLS` (10,000) and `WEFT_TESTS_STREAMS` (200), which count at the least. CONTRIBUTING.md has the
//! command of the long run.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and reports"
)]

mod backend;
#[path = "../interop/contract.rs"]
#[allow(dead_code, reason = "the interoperability cases use the rest")]
mod contract;
mod gateway;
mod load;

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use weft_testkit::{eventually, number};

use backend::Backend;
use gateway::Process;
use load::Load;

/// How long anything may take before the test gives up; a fraction of a second, unless the machine is overloaded.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_everything_is_restarted_in_turn() {
    let began = Instant::now();
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start(SocketAddr::from(([127, 0, 0, 1], 0))).await);
    }
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let mut gateway = Process::start(folder.path(), &listener, &addresses).await;
    let load = Load::start(listener.local_addr().unwrap());
    load.moves_on().await;

    let (rounds, gateways) = (number("WEFT_TESTS_RESTARTS", 1), number("WEFT_TESTS_GATEWAY_RESTARTS", 1));
    for _ in 0..rounds {
        for backend in &mut backends {
            let address = backend.address;
            let old = std::mem::replace(backend, Backend::nowhere(address));
            old.stop().await;
            load.moves_on().await;
            *backend = Backend::start(address).await;
            eventually(LIMIT, || gateway.sends_to(address)).await;
            load.moves_on().await;
        }
    }
    for _ in 0..gateways {
        let new = Process::start(folder.path(), &listener, &addresses).await;
        std::mem::replace(&mut gateway, new).stop().await;
        load.moves_on().await;
    }
    load.reaches(number("WEFT_TESTS_CALLS", 10_000), number("WEFT_TESTS_STREAMS", 200)).await;
    let report = load.stop().await;
    gateway.stop().await;
    eprintln!(
        "{rounds} restarts of each backend, {gateways} of the gateway, {:.0} s: {report}",
        began.elapsed().as_secs_f64()
    );
    assert!(report.failures.is_empty(), "{report}");
    for backend in backends {
        backend.stop().await;
    }
}
