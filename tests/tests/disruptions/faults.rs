//! One of three backends fails in some way, under load: what that costs, and how soon the gateway is past it.
//!
//! Half of the calls may be executed twice by their contract: none of them may fail. The others may fail where one was
//! under way on the backend that failed. Each test reports when the backend was out of use, when it was back, and what
//! became of the calls; CONTRIBUTING.md has the command that shows the reports.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::time::sleep;
use tonic::Code;
use weft_testkit::{FaultProxy, eventually};

use crate::{
    LIMIT,
    callers::{Callers, Report},
    free_address,
    gateway::Gateway,
    program::Program,
};

/// Callers of each kind.
const CALLERS: usize = 6;
/// How often a backend cuts its connections, and after what time each.
const CUTS: usize = 20;
const BETWEEN_CUTS: Duration = Duration::from_millis(100);
/// How far away a slow backend is: a call takes twice of it.
const DISTANCE: Duration = Duration::from_millis(200);

/// How a call ends whose deadline passes, by whichever side notices first.
const LATE: [Code; 2] = [Code::Cancelled, Code::DeadlineExceeded];

/// Three backends, a gateway before them and callers before that.
struct Scene {
    folder: TempDir,
    backends: Vec<(SocketAddr, Program)>,
    /// Between the gateway and the first backend.
    network: FaultProxy,
    gateway: Gateway,
    callers: Callers,
    /// What the gateway calls the backend that is to fail.
    victim: SocketAddr,
}

/// How the gateway reaches the backend that is to fail.
enum Reach {
    Directly,
    OverTheNetwork,
}

impl Scene {
    async fn start(reach: Reach) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut seen = [(); 3].map(|()| free_address());
        let start = |address| (address, Program::backend(folder.path(), address));
        let backends = seen.map(start).into();
        let network = FaultProxy::start(seen[0]).await.unwrap();
        if matches!(reach, Reach::OverTheNetwork) {
            seen[0] = network.address();
        }
        let settings = "retry = { per_try_timeout = \"500ms\" }";
        let gateway = Gateway::start(folder.path(), &listener, &seen, settings).await;
        let callers = Callers::start(listener.local_addr().unwrap(), CALLERS);
        callers.move_on().await;
        Self { folder, backends, network, gateway, callers, victim: seen[0] }
    }

    /// How long it took from `since` until the backend that fails got no more calls.
    async fn out(&self, since: Instant) -> Duration {
        eventually(LIMIT, || async { !self.gateway.sends_to(self.victim).await }).await;
        since.elapsed()
    }

    /// How long it took from `since` until it got calls again, and answered them.
    async fn back(&self, since: Instant) -> Duration {
        eventually(LIMIT, || self.gateway.sends_to(self.victim)).await;
        let (back, before) = (since.elapsed(), self.calls_of_victim().await);
        eventually(LIMIT, || async { self.calls_of_victim().await > before + 20 }).await;
        back
    }

    async fn calls_of_victim(&self) -> u64 {
        let (address, backends) = (self.victim.to_string(), self.gateway.backends().await);
        backends.iter().find(|backend| backend.address == address).map_or(0, |backend| backend.calls)
    }

    /// The part of all calls that it gets while the callers move on.
    async fn share_of_victim(&self) -> f64 {
        let all = async || self.gateway.backends().await.iter().map(|backend| backend.calls).sum::<u64>();
        let (its, of) = (self.calls_of_victim().await, all().await);
        self.callers.move_on().await;
        (self.calls_of_victim().await - its) as f64 / (all().await - of) as f64
    }

    /// Ends everything, and tells what became of the calls.
    async fn end(mut self, what: impl fmt::Display) -> Report {
        self.callers.move_on().await;
        let report = self.callers.stop().await;
        eprintln!("{what}: {report}");
        self.gateway.stop().await;
        for (_, backend) in &mut self.backends {
            backend.stop().await;
        }
        assert!(report.repeatable.failures.is_empty(), "{what}: {report}");
        report
    }
}

#[tokio::test]
async fn a_backend_that_is_killed_costs_the_calls_under_way_on_it() {
    let mut scene = Scene::start(Reach::Directly).await;
    scene.backends[0].1.kill().await;
    let out = scene.out(Instant::now()).await;
    scene.callers.move_on().await;
    scene.backends[0].1 = Program::backend(scene.folder.path(), scene.victim);
    let back = scene.back(Instant::now()).await;
    let report = scene.end(format_args!("killed, out after {out:.0?}, back after {back:.0?}")).await;
    report.once.failed_only_with(&[Code::Unavailable], CALLERS);
}

#[tokio::test]
async fn a_backend_that_hangs_costs_the_calls_that_wait_for_it() {
    let scene = Scene::start(Reach::Directly).await;
    scene.backends[0].1.signal("STOP").await;
    let out = scene.out(Instant::now()).await;
    scene.callers.move_on().await;
    scene.backends[0].1.signal("CONT").await;
    let back = scene.back(Instant::now()).await;
    let report = scene.end(format_args!("suspended, out after {out:.0?}, back after {back:.0?}")).await;
    report.once.failed_only_with(&LATE, 2 * CALLERS);
}

#[tokio::test]
async fn a_backend_beyond_a_parted_network_costs_the_calls_that_wait_for_it() {
    let scene = Scene::start(Reach::OverTheNetwork).await;
    scene.network.part().await.unwrap();
    let out = scene.out(Instant::now()).await;
    scene.callers.move_on().await;
    scene.network.heal().await.unwrap();
    let back = scene.back(Instant::now()).await;
    let report = scene.end(format_args!("parted, out after {out:.0?}, back after {back:.0?}")).await;
    report.once.failed_only_with(&LATE, 2 * CALLERS);
}

#[tokio::test]
async fn connections_that_are_reset_cost_the_calls_under_way_on_them() {
    let scene = Scene::start(Reach::OverTheNetwork).await;
    for _ in 0..CUTS {
        scene.network.cut().await;
        sleep(BETWEEN_CUTS).await;
    }
    let back = scene.back(Instant::now()).await;
    let report = scene.end(format_args!("{CUTS} resets, back after {back:.0?}")).await;
    report.once.failed_only_with(&[Code::Unavailable], CUTS * CALLERS);
}

#[tokio::test]
async fn a_backend_that_slows_down_loses_its_share_and_no_call() {
    let scene = Scene::start(Reach::OverTheNetwork).await;
    let usual = scene.share_of_victim().await;
    scene.network.delay(DISTANCE).await;
    scene.callers.move_on().await;
    let slow = scene.share_of_victim().await;
    scene.network.heal().await.unwrap();
    let back = scene.back(Instant::now()).await;
    let what = format!("slow, share of calls {:.1} % and {:.1} % before", slow * 100.0, usual * 100.0);
    let report = scene.end(format_args!("{what}, back after {back:.0?}")).await;
    report.once.failed_only_with(&[], 0);
    assert!(slow < usual / 4.0, "{what}");
}
