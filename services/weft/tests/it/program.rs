//! The `weft` program and its processes.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// Every port free, every peer found by the launcher.
pub(crate) const ANY_PORTS: &str = r#"
[gateway]
listeners = [{ address = "127.0.0.1:0" }]
admin = { address = "127.0.0.1:0" }
[cache]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
[database]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
[queue]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
[assets]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
"#;

/// The program, with nothing of the environment that could change what it does.
pub(crate) fn weft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Said {
    weft().args(arguments).output().unwrap().into()
}

/// A running `weft up`; killed when dropped.
pub(crate) struct Mesh {
    pub(crate) gateway: String,
    pub(crate) admin: String,
    pub(crate) summary: String,
    folder: TempDir,
    child: Option<Child>,
}

impl Mesh {
    /// Starts one on free ports and a directory of its own, and waits for its summary.
    pub(crate) fn start() -> Self {
        Self::begin(ANY_PORTS, &[], Stdio::inherit())
    }

    /// The same with more arguments, and what it logs going elsewhere.
    pub(crate) fn start_with(arguments: &[&str], log: Stdio) -> Self {
        Self::begin(ANY_PORTS, arguments, log)
    }

    /// The same, with another configuration.
    pub(crate) fn configured(text: &str) -> Self {
        Self::begin(text, &[], Stdio::inherit())
    }

    fn begin(text: &str, arguments: &[&str], log: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("weft.toml");
        std::fs::write(&config, text).unwrap();
        let (child, summary) = spawn(&config, &folder.path().join("data"), arguments, log);
        let gateway = word_after(&summary, "gateway");
        let admin = word_after(&summary, "admin");
        Self { gateway, admin, summary, folder, child: Some(child) }
    }

    /// Where it keeps everything.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A command of the program against it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = weft();
        command.args(["--gateway", &self.gateway, "--admin", &self.admin]).args(arguments);
        command
    }

    /// Runs a command against it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    /// Ends it without any warning.
    pub(crate) fn kill(&mut self) {
        let mut killed = self.child.take().unwrap();
        killed.kill().unwrap();
        killed.wait().unwrap();
    }

    /// Ends it without any warning, and starts it again on the same ports and directory.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        let config = self.folder.path().join("again.toml");
        let address = |url: &str| format!("\"{}\"", url.trim_start_matches("http://"));
        let text = ANY_PORTS.replacen("\"127.0.0.1:0\"", &address(&self.gateway), 1).replacen(
            "\"127.0.0.1:0\"",
            &address(&self.admin),
            1,
        );
        std::fs::write(&config, text).unwrap();
        let (child, _) = spawn(&config, &self.data_dir(), &[], Stdio::inherit());
        self.child = Some(child);
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal_and_wait(mut self, signal: &str, limit: Duration) -> i32 {
        let mut child = self.child.take().unwrap();
        send(child.id(), signal);
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait()));
        let status = end.recv_timeout(limit).unwrap_or_else(|_| panic!("it has not ended within {limit:?}"));
        status.unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal by its name.
pub(crate) fn send(pid: u32, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whether a process is there and runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn spawn(config: &Path, data_dir: &Path, arguments: &[&str], log: Stdio) -> (Child, String) {
    let mut child = weft()
        .args(["up", "--config"])
        .arg(config)
        .arg("--data-dir")
        .arg(data_dir)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut summary = String::new();
    while !summary.contains("Ctrl-C stops it") {
        if lines.read_line(&mut summary).unwrap() == 0 {
            panic!("it ended with {:?} after {summary:?}", child.wait());
        }
    }
    // What it says later is not read, and does not block it.
    thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    (child, summary)
}

fn word_after(text: &str, word: &str) -> String {
    let mut words = text.split_whitespace().skip_while(|one| *one != word);
    words.nth(1).unwrap_or_else(|| panic!("no {word} in {text}")).to_owned()
}
