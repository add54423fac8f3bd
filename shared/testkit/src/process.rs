//! Processes of a private server: how to start them, and signals to a whole tree of them.
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{Error, Result, environment};

/// Who runs a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// Whoever runs the test.
    Own,
    /// `nobody` where the test runs as root: PostgreSQL refuses root.
    Unprivileged,
}

/// A command line that can be started again and again.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) account: Account,
}

impl Launch {
    pub(crate) fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        account: Account,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.into(), arguments, environment: Vec::new(), account }
    }

    pub(crate) fn with<V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name, value.into())));
        self
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(folder).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.account == Account::Unprivileged && environment::is_root() {
            command.uid(environment::NOBODY).gid(environment::NOBODY);
        }
        command
    }

    /// Starts it in the process group `group` (0: one of its own), its output appended to `log`.
    pub(crate) fn spawn(&self, folder: &Path, log: &Path, group: u32) -> Result<Child> {
        let log_file = File::options().create(true).append(true).open(log).map_err(Error::io("open", log))?;
        let errors = log_file.try_clone().map_err(Error::io("open", log))?;
        let mut command = self.command(folder);
        command.stdout(log_file).stderr(errors).process_group(group.cast_signed());
        command.spawn().map_err(Error::io("start", &self.program))
    }

    /// Runs it to its end and returns what it printed.
    pub(crate) async fn run(&self, folder: &Path) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command(folder));
        let output = command.kill_on_drop(true).output().await.map_err(Error::io("run", &self.program))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let output_text = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
        let program = self.program.display().to_string();
        Err(Error::Tool { program, status: output.status, output: output_text.trim().to_owned() })
    }
}

/// What a program's environment keeps: where programs and libraries are, and what instruments it.
const KEPT: [&str; 7] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
    "ASAN_OPTIONS",
    "TSAN_OPTIONS",
];

/// A program to start in a test, with nothing in its environment that could configure it: no `DATABASE_URL` of whoever
/// runs the test, no `WEFT_…`.
pub fn hermetic(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command.envs(KEPT.iter().filter_map(|name| Some((name, environment::variable(name)?))));
    command
}

/// The process and everything it started that still hangs below it.
///
/// A process group is not enough: PostgreSQL and Erlang put their children into groups of their own.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return vec![root] };
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Whether the process still executes: a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Sends the signal to each of the processes; one that is gone already is fine.
pub(crate) fn signal(name: &str, pids: &[u32]) -> io::Result<()> {
    // The shell's own `kill`: a minimal system has no other, and a system call would need unsafe code or one more crate.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"signal=$1; shift; for pid; do kill -s "$signal" "$pid"; done"#, "sh", name]);
    shell.args(pids.iter().map(u32::to_string));
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_holds_children_and_signals_reach_them() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        // The inner shell is in a session of its own, out of reach of a signal to the group.
        let script = "setsid sh -c 'echo ready; exec sleep 600' & wait";
        let mut child =
            Launch::new("sh", Account::Own, ["-c", script]).spawn(folder.path(), &log, 0).unwrap();
        while !fs::read_to_string(&log).unwrap().contains("ready") {
            std::thread::yield_now();
        }
        let pids = tree(child.id());
        assert!(pids.len() >= 2, "{pids:?}");
        signal("KILL", &pids).unwrap();
        child.wait().unwrap();
        while pids.iter().any(|pid| alive(*pid)) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_hermetic_program_finds_programs_and_inherits_nothing_else() {
        let output = hermetic("sh").args(["-c", "env"]).output().unwrap();
        let names: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
            .collect();
        assert!(names.iter().any(|name| name == "PATH"), "{names:?}");
        // Cargo sets some for every test.
        assert!(environment::variable("CARGO_PKG_NAME").is_some());
        assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    }

    #[tokio::test]
    async fn a_failing_tool_shows_what_it_printed() {
        let tool = Launch::new("sh", Account::Own, ["-c", "echo no such database >&2; exit 3"]);
        let error = tool.run(Path::new("/")).await.unwrap_err().to_string();
        assert!(error.contains("no such database") && error.contains('3'), "{error}");
    }
}
