//! The configuration changed under load, by file and by call.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use weft_gateway::{Config, Gateway};
use weft_mesh::{Channel, error::ErrorKind};
use weft_proto::gateway::v1::{
    AddBackendRequest, ListPoolsRequest, Origin, ReloadConfigRequest, ReloadConfigResponse, ReloadOutcome,
    RemoveBackendRequest, gateway_service_client::GatewayServiceClient,
};
use weft_runtime::{Listeners, Running, config::Sources, start};
use weft_testkit::eventually;

use crate::{admin, backend::TestBackend, client::Client};

const LIMIT: Duration = Duration::from_secs(20);

/// A gateway whose file can be changed.
pub(crate) struct Reloading {
    pub(crate) gateway: Running,
    file: PathBuf,
    head: String,
    admin: GatewayServiceClient<Channel>,
    _folder: TempDir,
}

impl Reloading {
    /// Its file is looked at at that interval.
    pub(crate) async fn start(interval: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        let head = format!(
            "workers = 2\nlisteners = [{{ address = \"127.0.0.1:0\" }}]\nadmin = {{ address = \"127.0.0.1:0\" }}\n\
             reload = {{ interval = \"{interval}\" }}\n"
        );
        std::fs::write(&file, format!("{head}{rest}")).unwrap();
        let sources = Sources::read(Some(&file)).unwrap();
        let config = sources.load::<Config>("gateway", toml::Table::new()).unwrap();
        let listeners = Listeners::bind(&config).await.unwrap();
        let gateway = start::<Gateway>(config, listeners).await.unwrap();
        let admin = GatewayServiceClient::new(Channel::direct(gateway.admin));
        Self { gateway, file, head, admin, _folder: folder }
    }

    fn write(&self, rest: &str) {
        std::fs::write(&self.file, format!("{}{rest}", self.head)).unwrap();
    }

    fn admin(&self) -> GatewayServiceClient<Channel> {
        self.admin.clone()
    }

    async fn reload(&self) -> ReloadConfigResponse {
        self.admin().reload_config(ReloadConfigRequest {}).await.unwrap().into_inner()
    }

    pub(crate) async fn applied(&self, rest: &str) -> u64 {
        self.write(rest);
        let response = self.reload().await;
        assert_eq!((response.outcome(), response.problems), (ReloadOutcome::Applied, vec![]));
        response.version
    }

    async fn version(&self) -> u64 {
        self.admin().list_pools(ListPoolsRequest {}).await.unwrap().into_inner().config_version
    }
}

/// A pool of backends that are checked as `more` says.
fn pool(name: &str, backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!("[[pools]]\nname = \"{name}\"\nbackends = [{}]\n{more}\n", backends.join(", "))
}

const UNCHECKED: &str = "health = { kind = \"none\" }";

fn route(pool: &str) -> String {
    format!("[[routes]]\ngrpc_service = \"grpc.testing.*\"\npool = \"{pool}\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_load_fail_no_call() {
    let (one, two) = (TestBackend::start().await, TestBackend::start().await);
    // Everything changes: backends, checks, timeouts, the pool that the route names, and whether another one is there.
    let texts = [
        pool("echo", &[one.address], UNCHECKED) + &route("echo"),
        pool("echo", &[one.address, two.address], "timeout = \"50m\"") + &route("echo"),
        pool("other", &[two.address], "") + &pool("echo", &[one.address], "") + &route("other"),
    ];
    let mesh = Reloading::start("1h", &texts[0]).await;
    let (running, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let tasks = TaskTracker::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = Client::connect(mesh.gateway.address).await;
        let (running, calls) = (Arc::clone(&running), Arc::clone(&calls));
        clients.push(tasks.spawn(async move {
            let (send, response) = client.open("Echo", &[]).await;
            let mut stream = response.into_body();
            while running.load(Ordering::Relaxed) {
                assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap().0, "x");
                send.send(Bytes::from_static(b"s")).await.unwrap();
                assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "s");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for round in 1..=1000 {
        let before = calls.load(Ordering::Relaxed);
        assert_eq!(mesh.applied(&texts[round % texts.len()]).await, round as u64 + 1);
        // Each table is used.
        eventually(LIMIT, || async { calls.load(Ordering::Relaxed) > before }).await;
    }
    running.store(false, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    mesh.gateway.stop().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_named() {
    let one = TestBackend::start().await;
    let text = pool("echo", &[one.address], UNCHECKED) + &route("echo");
    let mesh = Reloading::start("1h", &text).await;
    let client = Client::connect(mesh.gateway.address).await;
    let nowhere = "[[routes]]\npath_prefix = \"/x\"\npool = \"nowhere\"\n[lifecycle]\nmax_in_flight = 0\n";
    for (broken, problems) in [
        (
            format!("{text}{nowhere}"),
            vec!["lifecycle.max_in_flight: must", "routes[1].pool: there is no pool \"nowhere\""],
        ),
        (format!("{text}typo = 1\n"), vec!["routes.0.typo: unknown key"]),
        (text.replace("[[routes]]", "[[routes"), vec!["gateway.toml: TOML parse error"]),
    ] {
        mesh.write(&broken);
        let response = mesh.reload().await;
        assert_eq!((response.outcome(), response.version), (ReloadOutcome::Rejected, 1));
        assert_eq!(response.problems.len(), problems.len(), "{:?}", response.problems);
        for (problem, expected) in response.problems.iter().zip(problems) {
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap().0, "x");
    }
    assert_eq!(mesh.applied(&(text.clone() + &pool("new", &[], ""))).await, 2, "and it can be mended");
    assert_eq!(mesh.reload().await.outcome(), ReloadOutcome::Unchanged);
    mesh.gateway.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_a_broken_one_waited_out() {
    let one = TestBackend::start().await;
    let text = pool("echo", &[one.address], UNCHECKED);
    let mesh = Reloading::start("20ms", &format!("routes = []\n{text}")).await;
    let client = Client::connect(mesh.gateway.address).await;
    assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap_err().code, tonic::Code::Unimplemented);
    mesh.write("[[");
    assert_eq!(mesh.reload().await.outcome(), ReloadOutcome::Rejected);
    mesh.write(&(text + &route("echo")));
    eventually(LIMIT, || async { mesh.version().await == 2 }).await;
    assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap().0, "x");
    mesh.gateway.stop().await;
}

#[tokio::test]
async fn a_removed_pool_finishes_its_streams_and_asks_no_more() {
    let (one, two) = (TestBackend::start().await, TestBackend::start().await);
    let (probed, still) = (Probed::start().await, Probed::start().await);
    let checks = "health = { kind = \"tcp\", interval = \"10ms\" }";
    let kept = pool("kept", &[still.address, two.address], checks);
    let mesh = Reloading::start(
        "1h",
        &(pool("echo", &[one.address], UNCHECKED)
            + &route("echo")
            + &pool("gone", &[probed.address], checks)
            + &kept),
    )
    .await;
    let client = Client::connect(mesh.gateway.address).await;
    let (send, response) = client.open("Echo", &[]).await;
    let mut stream = response.into_body();
    eventually(LIMIT, || async { probed.count() > 0 && still.count() > 0 }).await;
    mesh.applied(&format!("routes = []\n{kept}")).await;

    assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap_err().code, tonic::Code::Unimplemented);
    send.send(Bytes::from_static(b"still")).await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "still");
    drop(send);
    assert_eq!(stream.frame().await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");

    // The checks of the pool that stays are the clock.
    let (before, from) = (probed.count(), still.count());
    eventually(LIMIT, || async { still.count() > from + 10 }).await;
    assert!(probed.count() <= before + 1, "one may have been on its way");
    mesh.gateway.stop().await;
}

/// A socket that counts who connects.
struct Probed {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
}

impl Probed {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probed = Self { address: listener.local_addr().unwrap(), connections: Arc::default() };
        let connections = Arc::clone(&probed.connections);
        TaskTracker::new().spawn(async move {
            while listener.accept().await.is_ok() {
                connections.fetch_add(1, Ordering::Relaxed);
            }
        });
        probed
    }

    fn count(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn what_was_changed_by_call_survives_and_connections_do_too() {
    let backends = [TestBackend::start().await, TestBackend::start().await, TestBackend::start().await];
    let [one, two, three] = backends.each_ref().map(|backend| backend.address);
    let mesh = Reloading::start("1h", &(pool("echo", &[one, two], UNCHECKED) + &route("echo"))).await;
    admin::set_weight(&mesh.gateway, one, 7).await;
    let (pool_name, address) = ("echo".to_owned(), three.to_string());
    mesh.admin()
        .add_backend(AddBackendRequest { pool: pool_name.clone(), address, weight: 3 })
        .await
        .unwrap();
    let remove = RemoveBackendRequest { pool: pool_name, address: two.to_string() };
    mesh.admin().remove_backend(remove).await.unwrap();
    let client = Client::connect(mesh.gateway.address).await;
    for _ in 0..20 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    let seen = || async {
        let pools = admin::pools(&mesh.gateway).await;
        let backends = pools[0].backends.iter();
        backends.map(|b| (b.address.clone(), b.weight, b.calls, b.origin())).collect::<Vec<_>>()
    };
    let before = seen().await;
    assert_eq!(before.iter().map(|backend| backend.3).collect::<Vec<_>>(), [Origin::Changed, Origin::Added]);
    let connections = backends.each_ref().map(TestBackend::connections);

    // Other checks, another timeout, other weights, the same connections.
    let unchecked =
        "timeout = \"5m\"\nhealth = { kind = \"none\", interval = \"7s\", unhealthy_threshold = 9 }";
    mesh.applied(&(pool("echo", &[one, two], unchecked) + &route("echo"))).await;
    assert_eq!(seen().await, before);
    mesh.applied(&(pool("echo", &[two, one], unchecked) + &route("echo"))).await;
    assert_eq!(seen().await, before);
    for _ in 0..20 {
        client.unary("Echo", b"x", &[]).await.unwrap();
    }
    assert_eq!(backends.each_ref().map(TestBackend::connections), connections);
    mesh.gateway.stop().await;
}

#[tokio::test]
async fn limits_follow_and_sockets_need_a_restart() {
    let one = TestBackend::start().await;
    let text = pool("echo", &[one.address], UNCHECKED) + &route("echo");
    let mesh = Reloading::start("1h", &text).await;
    let client = Client::connect(mesh.gateway.address).await;
    let (send, response) = client.open("Echo", &[]).await;
    mesh.applied(&format!("{text}[lifecycle]\nmax_in_flight = 1\n")).await;
    let refused = client.unary("Echo", b"x", &[]).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason.as_str()), (ErrorKind::ResourceExhausted, "OVERLOADED"));
    mesh.applied(&format!("{text}[lifecycle]\nmax_in_flight = 2\n")).await;
    client.unary("Echo", b"x", &[]).await.unwrap();
    drop((send, response));

    let other = format!("{text}[lifecycle]\nmax_in_flight = 2\nmax_connections = 7\n");
    std::fs::write(&mesh.file, format!("{}{other}", mesh.head.replace("workers = 2", "workers = 3")))
        .unwrap();
    let response = mesh.reload().await;
    assert_eq!(response.needs_restart, ["lifecycle.max_connections", "workers"]);
    assert_eq!(mesh.version().await, response.version);
    mesh.gateway.stop().await;
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_reload() {
    let gateway = crate::gateway(&[], &[]).await;
    let mut admin = GatewayServiceClient::new(Channel::direct(gateway.admin));
    let error = admin.reload_config(ReloadConfigRequest {}).await.unwrap_err();
    let error = weft_mesh::error::CallError::from(error);
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::FailedPrecondition, "NO_CONFIG_FILE"));
    gateway.stop().await;
}
