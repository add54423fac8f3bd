//! Rolling restarts under load: three backends are restarted in turn, and then the gateway, and no call fails.
//!
//! Backends end as SIGTERM ends them: NOT_SERVING, GOAWAY, what is in flight goes on. The gateway is on a socket that
//! outlives it, as a service manager passes it. Callers are tonic's own transport and Weft's channel, half of the calls
//! each, unary ones and streams; whatever a caller is told other than the whole answer is a failure.
//!
//! How much of it is told by `WEFT_TESTS_RESTARTS` (of all backends, in turn; default 1), `WEFT_TESTS_GATEWAY_RESTARTS`
//! (1), `WEFT_TESTS_CALLS` (10,000) and `WEFT_TESTS_STREAMS` (200), which count at the least. CONTRIBUTING.md has the
//! command of the long run.
use std::{net::TcpListener, time::Instant};

use weft_testkit::{eventually, number};

use crate::{LIMIT, free_address, gateway::Gateway, load::Load, program::Program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_everything_is_restarted_in_turn() {
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [(); 3].map(|()| free_address());
    let start = |address| Program::backend(folder.path(), address);
    let mut backends = addresses.map(|address| (address, start(address)));
    let mut gateway = Gateway::start(folder.path(), &listener, &addresses, "").await;
    let load = Load::start(listener.local_addr().unwrap());
    load.moves_on().await;

    let (rounds, gateways) = (number("WEFT_TESTS_RESTARTS", 1), number("WEFT_TESTS_GATEWAY_RESTARTS", 1));
    for _ in 0..rounds {
        for (address, backend) in &mut backends {
            let address = *address;
            backend.stop().await;
            load.moves_on().await;
            *backend = start(address);
            eventually(LIMIT, || gateway.sends_to(address)).await;
            load.moves_on().await;
        }
    }
    for _ in 0..gateways {
        let new = Gateway::start(folder.path(), &listener, &addresses, "").await;
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
    for (_, mut backend) in backends {
        backend.stop().await;
    }
}
