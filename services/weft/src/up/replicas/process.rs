//! One life of a replica: the process from its start to its end.

use std::{
    convert::Infallible,
    fmt, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use weft_runtime::Scope;

use super::{Spec, State, lines::Lines, logs::relay};
use crate::serve;

/// How long is waited for what an ended process has said last. Its pipes end with it, unless somebody else holds them.
const LAST_WORDS: Duration = Duration::from_millis(500);
const BUFFER: usize = 8 * 1024;

/// How a life ended that was not asked to end.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) pid: Option<u32>,
    /// Whether it had come so far as to take calls.
    pub(super) served: bool,
    how: String,
    last_line: String,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.how)?;
        if self.last_line.is_empty() { Ok(()) } else { write!(f, "; its last line: {}", self.last_line) }
    }
}

/// Runs a replica until it ends, or until draining: then it is let drain, and there is no death to tell of.
pub(super) async fn live(spec: &Spec, state: &watch::Sender<State>, scope: &Scope) -> Option<Death> {
    let mut born = match spawn(spec) {
        Ok(born) => born,
        Err(error) => return Some(Death::unborn(&error)),
    };
    let pid = born.child.id();
    let logs = scope.tasks.spawn(relay(spec.name.clone(), spec.log_format, born.stderr));
    let news = scope.tasks.spawn(follow(born.stdout, pid.unwrap_or_default(), state.clone()));
    let ended = tokio::select! {
        status = born.child.wait() => Some(status),
        // Dropped with this select, which is the end of the replica's stdin.
        never = hold(born.stdin, &spec.configuration) => match never {},
        () = scope.draining.cancelled() => None,
    };
    if ended.is_none() {
        finish(&spec.name, &mut born.child, spec.stop_limit).await;
    }
    let served = last_words(news).await.unwrap_or(false);
    let last_line = last_words(logs).await.unwrap_or_default();
    let how = describe(ended?);
    Some(Death { pid, served, how, last_line })
}

struct Born {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: tokio::process::ChildStderr,
}

fn spawn(spec: &Spec) -> io::Result<Born> {
    let mut child = Command::new(this_program()?)
        .arg0("weft")
        .args(serve::ARGUMENTS)
        .arg(spec.service)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C goes to a terminal's whole process group, and would stop the replicas before those who call them.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok(Born { child, stdin, stdout, stderr }),
        _ => Err(io::Error::other("it has no pipes")),
    }
}

/// This program, even if its file has been replaced since it was started.
fn this_program() -> io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() }
}

/// Hands over the configuration, and never lets go of the pipe. A replica that reads it no more is dying, which is seen
/// by its end.
async fn hold(mut stdin: ChildStdin, configuration: &str) -> Infallible {
    let _ = stdin.write_all(configuration.as_bytes()).await;
    let _ = stdin.write_all(&[serve::END]).await;
    let _ = stdin.flush().await;
    std::future::pending().await
}

/// Notes what a replica says of its readiness; true in the end if it said anything, which it does once it serves.
async fn follow(stdout: ChildStdout, pid: u32, state: watch::Sender<State>) -> bool {
    let mut served = false;
    let note = |line: String| {
        if let Some(ready) = serve::readiness(&line) {
            served = true;
            state.send_replace(State::Up { pid, ready });
        }
    };
    each_line(stdout, note).await;
    served
}

/// Hands out the lines of a pipe until it ends.
pub(super) async fn each_line(mut pipe: impl AsyncRead + Unpin, mut each: impl FnMut(String)) {
    let (mut lines, mut buffer) = (Lines::default(), vec![0; BUFFER]);
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        lines.push(&buffer[..length], &mut each);
    }
    if let Some(rest) = lines.rest() {
        each(rest);
    }
}

/// Waits for a process that was asked to stop, and ends it if it does not.
async fn finish(name: &str, child: &mut Child, limit: Duration) {
    match timeout(limit, child.wait()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(status) => tracing::warn!(replica = name, "{} while it was stopping", describe(status)),
        Err(_) => {
            tracing::warn!(replica = name, "has not stopped within {limit:?}, and is killed");
            let _ = child.kill().await;
        }
    }
}

async fn last_words<T>(mut task: JoinHandle<T>) -> Option<T> {
    let said = timeout(LAST_WORDS, &mut task).await;
    task.abort();
    said.ok()?.ok()
}

fn describe(ended: io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!("is lost: {error}"),
    }
}

impl Death {
    fn unborn(error: &io::Error) -> Self {
        let how = format!("cannot be started: {error}");
        Self { pid: None, served: false, how, last_line: String::new() }
    }
}
