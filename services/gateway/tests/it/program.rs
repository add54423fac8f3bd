//! The program: its signals, and one process that takes the place of another.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;
use weft_mesh::Channel;
use weft_proto::gateway::v1::{ListPoolsRequest, gateway_service_client::GatewayServiceClient};
use weft_testkit::{eventually, eventually_ok, free_port};

use crate::{
    backend::TestBackend,
    frames::{Frames, RST_STREAM},
};

const LIMIT: Duration = Duration::from_secs(60);

/// A gateway in a process of its own, on a socket that is not.
pub(crate) struct Program {
    child: Child,
    pub(crate) admin: SocketAddr,
}

impl Program {
    pub(crate) async fn start(folder: &Path, listener: &TcpListener, pools: &str) -> (Self, PathBuf) {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let config = folder.join(format!("{}.toml", admin.port()));
        let address = listener.local_addr().unwrap();
        let text = format!(
            "workers = 1\nlisteners = [{{ address = \"{address}\" }}]\nadmin = {{ address = \"{admin}\" }}\n\
             reload = {{ interval = \"1h\" }}\n{pools}"
        );
        fs::write(&config, text).unwrap();
        // As a service manager does: descriptor 3, and the process is told that it is meant.
        let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" --config "$1" 3<&0 </dev/null"#;
        let child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_weft-gateway")])
            .arg(&config)
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let program = Self { child, admin };
        eventually_ok(LIMIT, || program.version()).await;
        (program, config)
    }

    async fn version(&self) -> Result<u64, tonic::Status> {
        let mut admin = GatewayServiceClient::new(Channel::direct(self.admin));
        Ok(admin.list_pools(ListPoolsRequest {}).await?.into_inner().config_version)
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            Command::new("sh")
                .args(["-c", &format!("kill -s {name} {pid}")])
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    pub(crate) async fn stop(mut self) {
        self.signal("TERM").await;
        assert!(self.child.wait().await.unwrap().success());
    }
}

pub(crate) fn pools(backend: &TestBackend) -> String {
    format!(
        "[[pools]]\nname = \"echo\"\nbackends = [{{ address = \"{}\" }}]\n[[routes]]\n\
         grpc_service = \"grpc.testing.*\"\npool = \"echo\"\n",
        backend.address
    )
}

#[tokio::test]
async fn a_hang_up_reloads() {
    let (backend, folder) = (TestBackend::start().await, tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (program, config) = Program::start(folder.path(), &listener, &pools(&backend)).await;
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "[[pools]]\nname = \"more\"\n").unwrap();
    assert_eq!(program.version().await.unwrap(), 1);
    program.signal("HUP").await;
    eventually(LIMIT, || async { program.version().await.is_ok_and(|version| version == 2) }).await;
    program.stop().await;
}

/// Connects anew for every call, and takes nothing but its answer for one.
async fn call(address: SocketAddr) -> io::Result<()> {
    let mut frames = Frames::connect_and_ask(address, "Echo").await?;
    loop {
        match frames.next().await? {
            Some(frame) if frame.stream == 1 && frame.kind == RST_STREAM => {
                return Err(io::Error::other("reset"));
            }
            Some(frame) if frame.stream == 1 && frame.is_last() => return Ok(()),
            Some(_) => {}
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_one_process_takes_the_place_of_another() {
    let (backend, folder) = (TestBackend::start().await, tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, pools) = (listener.local_addr().unwrap(), pools(&backend));
    let (mut program, _) = Program::start(folder.path(), &listener, &pools).await;
    let (running, calls) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let tasks = TaskTracker::new();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (running, calls) = (Arc::clone(&running), Arc::clone(&calls));
            tasks.spawn(async move {
                while running.load(Ordering::Relaxed) {
                    call(address).await.unwrap();
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = || {
        let from = calls.load(Ordering::Relaxed);
        let calls = Arc::clone(&calls);
        eventually(LIMIT, move || {
            let calls = Arc::clone(&calls);
            async move { calls.load(Ordering::Relaxed) >= from + 50 }
        })
    };
    for _ in 0..5 {
        more().await;
        let (next, _) = Program::start(folder.path(), &listener, &pools).await;
        std::mem::replace(&mut program, next).stop().await;
    }
    // Without another in its place: who connects in between waits.
    program.stop().await;
    let (program, _) = Program::start(folder.path(), &listener, &pools).await;
    more().await;
    running.store(false, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    program.stop().await;
}
