//! Programs as child processes, and signals to them.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use tokio::process::{Child, Command};

/// A child process, which ends with the test.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap())
    }

    /// One of `grpc.testing.TestService`.
    pub(crate) fn backend(folder: &Path, address: SocketAddr) -> Self {
        let config = folder.join(format!("backend-{}.toml", address.port()));
        fs::write(&config, format!("address = \"{address}\"\nadmin = {{ address = \"127.0.0.1:0\" }}\n"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-tests-backend"));
        Self::spawn(command.arg("--config").arg(config).stdin(Stdio::null()))
    }

    /// Sends it a signal, by name.
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.0.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and returns when it has ended well.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM").await;
        assert!(self.0.wait().await.unwrap().success());
    }

    /// SIGTERM, and returns when it has ended, by the signal or by itself.
    #[cfg(feature = "real-backends")]
    pub(crate) async fn stop_anyhow(&mut self) {
        self.signal("TERM").await;
        self.0.wait().await.unwrap();
    }

    /// The most memory it has had resident so far, in bytes.
    #[cfg(feature = "real-backends")]
    pub(crate) fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// SIGKILL, and returns when it is gone.
    pub(crate) async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }
}
