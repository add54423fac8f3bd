//! A gateway in a process of its own, on a socket that is not.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::Path,
    process::Stdio,
};

use tokio::process::{Child, Command};
use weft_mesh::Channel;
use weft_proto::gateway::v1::{Health, ListPoolsRequest, gateway_service_client::GatewayServiceClient};
use weft_testkit::{eventually, free_port};

use crate::LIMIT;

pub(crate) struct Process {
    child: Child,
    admin: SocketAddr,
}

impl Process {
    /// Starts one and waits until it sends calls to every backend.
    pub(crate) async fn start(folder: &Path, listener: &TcpListener, backends: &[SocketAddr]) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let config = folder.join(format!("{}.toml", admin.port()));
        let address = listener.local_addr().unwrap();
        let backends: Vec<_> = backends.iter().map(|a| format!("{{ address = \"{a}\" }}")).collect();
        let text = format!(
            "workers = 1\nlisteners = [{{ address = \"{address}\" }}]\nadmin = {{ address = \"{admin}\" }}\n\
             [[pools]]\nname = \"testing\"\nbackends = [{}]\nslow_start = {{ window = \"1s\" }}\n\
             [[routes]]\ngrpc_service = \"grpc.testing.*\"\npool = \"testing\"\n",
            backends.join(", ")
        );
        fs::write(&config, text).unwrap();
        // As a service manager does: descriptor 3, and the process is told that it is meant.
        let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve gateway --config "$1" 3<&0 </dev/null"#;
        let child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_weft-tests")])
            .arg(&config)
            .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let process = Self { child, admin };
        eventually(LIMIT, || async { process.healthy().await.len() == 3 }).await;
        process
    }

    /// Those that it gives calls to.
    async fn healthy(&self) -> Vec<String> {
        let mut admin = GatewayServiceClient::new(Channel::direct(self.admin));
        let Ok(answer) = admin.list_pools(ListPoolsRequest {}).await else { return Vec::new() };
        let backends = answer.into_inner().pools.into_iter().flat_map(|pool| pool.backends);
        backends
            .filter(|backend| backend.health() == Health::Healthy)
            .map(|backend| backend.address)
            .collect()
    }

    pub(crate) async fn sends_to(&self, backend: SocketAddr) -> bool {
        self.healthy().await.contains(&backend.to_string())
    }

    /// SIGTERM, and returns when it has ended well.
    pub(crate) async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        let told = Command::new("sh").args(["-c", &format!("kill -s TERM {pid}")]).status().await.unwrap();
        assert!(told.success());
        assert!(self.child.wait().await.unwrap().success());
    }
}
