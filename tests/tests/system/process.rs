//! Programs of the mesh as child processes, and the documents they are given.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use toml::{Table, Value};
use weft_client::Client;
use weft_testkit::{eventually_ok, free_port};

/// The program under test.
pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft-tests");
/// How long anything may take before a test gives up; a fraction of a second, unless the machine is overloaded.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A `weft up` with a data directory of its own, which may be killed and started again.
pub(crate) struct Mesh {
    child: Child,
    config: PathBuf,
    data: PathBuf,
    arguments: Vec<String>,
    pub(crate) gateway: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Mesh {
    /// Starts one on free ports, with more configuration: none for embedded backends, `Servers::config` for real ones.
    pub(crate) async fn start(more: &str) -> Self {
        Self::start_with(more, &[]).await
    }

    /// The same, with more arguments too.
    pub(crate) async fn start_with(more: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [gateway, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())));
        let mut text = format!(
            "[gateway]\nlisteners = [{{ address = \"{gateway}\" }}]\nadmin = {{ address = \"{admin}\" }}\n"
        );
        for service in ["cache", "database", "queue", "assets"] {
            text +=
                &format!("[{service}]\naddress = \"127.0.0.1:0\"\nadmin = {{ address = \"127.0.0.1:0\" }}\n");
        }
        let mut table = text.parse().unwrap();
        merge(&mut table, more.parse().unwrap());
        let config = folder.path().join("weft.toml");
        fs::write(&config, toml::to_string(&table).unwrap()).unwrap();
        let data = folder.path().join("data");
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = up(&config, &data, &arguments);
        Self { child, config, data, arguments, gateway, admin, folder }
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again on the same data and ports.
    pub(crate) fn restart(&mut self) {
        self.child = up(&self.config, &self.data, &self.arguments);
    }

    /// Where it keeps everything.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Calls it, as soon as it answers.
    pub(crate) async fn client(&self) -> Client {
        let address = format!("http://{}", self.gateway);
        let client = eventually_ok(LIMIT, || Client::connect(&address, "ada")).await;
        // The port is open before what is behind it is ready.
        eventually_ok(LIMIT, || async { client.chats().list().try_next().await }).await;
        client
    }

    /// A command of the program against it, as the user of [`Mesh::client`], with its output captured.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = weft();
        command.args(["--user", "ada", "--gateway", &format!("http://{}", self.gateway)]);
        command.args(["--admin", &format!("http://{}", self.admin)]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `weft ingest` on a folder, from within it.
    pub(crate) fn ingest(&self, documents: &Path) -> Child {
        self.command(&["ingest", "."]).current_dir(documents).spawn().unwrap()
    }
}

/// Adds tables to those of the same name, and replaces everything else.
fn merge(into: &mut Table, more: Table) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(more)) => merge(into, more),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// The program, with nothing of the environment that could change what it does; it ends with the test.
pub(crate) fn weft() -> Command {
    let mut command = Command::new(WEFT);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn up(config: &Path, data: &Path, arguments: &[String]) -> Child {
    let mut command = weft();
    command.arg("up").arg("--config").arg(config).arg("--data-dir").arg(data).args(arguments);
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// `kill -9`.
#[cfg(feature = "real-backends")]
pub(crate) async fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().await.unwrap();
    assert!(killed.success());
}

/// Whether a process is there and runs; a zombie does not.
#[cfg(feature = "real-backends")]
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The word that only document `i` holds.
pub(crate) fn word(i: usize) -> String {
    let letters = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu"];
    format!(
        "zq{}",
        format!("{i:04}").bytes().map(|digit| letters[usize::from(digit - b'0')]).collect::<String>()
    )
}

/// Writes a folder of small Markdown documents, each with a word of its own.
pub(crate) fn write_documents(folder: &Path, count: usize) -> PathBuf {
    let documents = folder.join("documents");
    fs::create_dir_all(&documents).unwrap();
    for i in 0..count {
        let text = format!(
            "# Document {i}\n\nThe word of this document is {}.\n\nIt has a second paragraph.\n",
            word(i)
        );
        fs::write(documents.join(format!("{i:04}.md")), text).unwrap();
    }
    documents
}
