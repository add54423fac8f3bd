//! A gateway in a process of its own, on a socket that is not.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
};

use prost::Message;
use prost_types::{FileDescriptorSet, MethodOptions, method_options::IdempotencyLevel};
use tokio::process::Command;
use weft_mesh::Channel;
use weft_proto::gateway::v1::{
    Backend, Ejection, Health, ListPoolsRequest, gateway_service_client::GatewayServiceClient,
};
use weft_testkit::eventually;

use crate::{LIMIT, contract::DESCRIPTORS, free_address, program::Program};

pub(crate) struct Gateway {
    program: Program,
    admin: SocketAddr,
    #[cfg_attr(not(feature = "real-backends"), expect(dead_code, reason = "for tests on real servers"))]
    config: PathBuf,
}

impl Gateway {
    /// Starts one, with more settings of its pool, and waits until it sends calls to every backend.
    pub(crate) async fn start(
        folder: &Path,
        listener: &TcpListener,
        backends: &[SocketAddr],
        more: &str,
    ) -> Self {
        let admin = free_address();
        let config = folder.join(format!("gateway-{}.toml", admin.port()));
        let (address, descriptors) = (listener.local_addr().unwrap(), descriptors(folder));
        let listed: Vec<_> = backends.iter().map(|a| format!("{{ address = \"{a}\" }}")).collect();
        let text = format!(
            "workers = 1\nlisteners = [{{ address = \"{address}\" }}]\nadmin = {{ address = \"{admin}\" }}\n\
             descriptor_sets = [{descriptors:?}]\n\
             [[pools]]\nname = \"testing\"\nbackends = [{}]\nslow_start = {{ window = \"1s\" }}\n{more}\n\
             [[routes]]\ngrpc_service = \"grpc.testing.*\"\npool = \"testing\"\n",
            listed.join(", ")
        );
        fs::write(&config, text).unwrap();
        // As a service manager does: descriptor 3, and the process is told that it is meant.
        let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve gateway --config "$1" 3<&0 </dev/null"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_weft-tests")]).arg(&config);
        command.stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
        let gateway = Self { program: Program::spawn(&mut command), admin, config };
        eventually(LIMIT, || async {
            let known = gateway.backends().await;
            known.len() == backends.len() && known.iter().all(is_used)
        })
        .await;
        gateway
    }

    /// What it knows of its backends; nothing while it does not answer.
    pub(crate) async fn backends(&self) -> Vec<Backend> {
        let mut admin = GatewayServiceClient::new(Channel::direct(self.admin));
        let answer = admin.list_pools(ListPoolsRequest {}).await;
        let pools = answer.map(|answer| answer.into_inner().pools).unwrap_or_default();
        pools.into_iter().flat_map(|pool| pool.backends).collect()
    }

    /// Whether it gives calls to one.
    pub(crate) async fn sends_to(&self, backend: SocketAddr) -> bool {
        let address = backend.to_string();
        self.backends().await.iter().any(|backend| backend.address == address && is_used(backend))
    }

    /// Writes its configuration anew, which it notices.
    #[cfg(feature = "real-backends")]
    pub(crate) fn rewrite(&self, change: impl FnOnce(String) -> String) {
        fs::write(&self.config, change(fs::read_to_string(&self.config).unwrap())).unwrap();
    }

    /// The most memory it has had resident so far, in bytes.
    #[cfg(feature = "real-backends")]
    pub(crate) fn peak_memory(&self) -> usize {
        self.program.peak_memory()
    }

    /// SIGTERM, and returns when it has ended well.
    pub(crate) async fn stop(mut self) {
        self.program.stop().await;
    }
}

fn is_used(backend: &Backend) -> bool {
    backend.health() == Health::Healthy && backend.ejection() == Ejection::None
}

/// Writes the contract to a file, with one method marked as one that may be executed twice: `EmptyCall`.
fn descriptors(folder: &Path) -> PathBuf {
    let mut set = FileDescriptorSet::decode(&*fs::read(DESCRIPTORS).unwrap()).unwrap();
    let services = set.file.iter_mut().flat_map(|file| &mut file.service);
    for method in services.flat_map(|service| &mut service.method) {
        if method.name() == "EmptyCall" {
            let level = Some(IdempotencyLevel::NoSideEffects.into());
            method.options = Some(MethodOptions { idempotency_level: level, ..MethodOptions::default() });
        }
    }
    let file = folder.join("testing.bin");
    fs::write(&file, set.encode_to_vec()).unwrap();
    file
}
