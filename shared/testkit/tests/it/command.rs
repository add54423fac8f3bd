//! The command line: all four servers, and what is left when it dies.
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio::net::TcpStream;
use weft_testkit::eventually;

const BINARY: &str = env!("CARGO_BIN_EXE_weft-testkit");
/// Four servers at once on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// `weft-testkit servers` with a temporary folder of its own, so that what it leaves behind can be seen.
struct Servers {
    command: Child,
    folder: tempfile::TempDir,
}

impl Servers {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_nobody(folder.path());
        let mut command = Command::new(BINARY);
        command.args(["servers", "--write"]).arg(config_file(folder.path())).env("TMPDIR", folder.path());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { command, folder }
    }

    async fn addresses(&self) -> Vec<SocketAddr> {
        let file = config_file(self.folder.path());
        eventually(PATIENCE, || async { file.metadata().is_ok_and(|file| file.len() > 0) }).await;
        let config: toml::Table = std::fs::read_to_string(file).unwrap().parse().unwrap();
        let text = |path: [&str; 3]| {
            let value = config[path[0]][path[1]].get(path[2]).and_then(toml::Value::as_str);
            value.unwrap_or_else(|| panic!("{path:?} in {config}")).to_owned()
        };
        let s3 = config["assets"]["storage"]["s3"]["endpoint"].as_str().unwrap().to_owned();
        let urls = [
            text(["cache", "redis", "url"]),
            text(["database", "database", "url"]),
            text(["queue", "jobs", "url"]),
            text(["queue", "broker", "amqp_url"]),
            s3,
        ];
        urls.iter().map(|url| address(url)).collect()
    }

    /// Only the configuration is left in the folder: no server and no data.
    async fn nothing_is_left(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            eventually(PATIENCE, || async { TcpStream::connect(address).await.is_err() }).await;
        }
        let left = || std::fs::read_dir(self.folder.path()).unwrap().count();
        eventually(PATIENCE, || async { left() == 1 }).await;
    }
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("weft.toml")
}

/// Servers that run as `nobody` pass through it to their own folders.
fn open_to_nobody(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Host and port of a URL.
fn address(url: &str) -> SocketAddr {
    let authority = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    authority.rsplit('@').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_killed_process_leaves_no_server_and_no_data() {
    let mut servers = Servers::start();
    let addresses = servers.addresses().await;
    for address in &addresses {
        TcpStream::connect(address).await.unwrap();
    }
    servers.command.kill().unwrap();
    servers.command.wait().unwrap();
    servers.nothing_is_left(&addresses).await;
}

#[tokio::test]
async fn a_terminated_process_ends_its_servers_first() {
    let mut servers = Servers::start();
    let addresses = servers.addresses().await;
    let kill = format!("kill -TERM {}", servers.command.id());
    Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(servers.command.wait().unwrap().success());
    servers.nothing_is_left(&addresses).await;
}

#[test]
fn what_is_missing_is_named_with_the_way_to_get_it() {
    let output = Command::new(BINARY).arg("servers").env("WEFT_TESTKIT_PG_BIN", "/nowhere").output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains("PostgreSQL 18 with pgvector (looked in /nowhere) is missing"), "{message}");
    assert!(message.contains("tests/run.sh"), "{message}");
}
