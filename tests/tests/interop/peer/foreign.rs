//! Peers that are programs: `tests/interop/{python,node}`, which also say what they print.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{Guard, Peer, Results};
use crate::{
    contract::DESCRIPTORS,
    events::{Events, LIMIT},
};

/// Names the folder into which `tests/run.sh` puts the peers' libraries.
const FOLDER_VARIABLE: &str = "WEFT_TESTS_PEERS";
/// How long all cases together may take: a few seconds, unless the machine is overloaded.
const DRIVE_LIMIT: Duration = Duration::from_secs(120);

/// A running peer: killed when dropped, and at the end of its input, which also comes when this process is killed.
struct Program {
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// A script below `tests/interop`, with the libraries of its language. `name` is what it is counted as.
fn command(name: &str, script: &str) -> Command {
    let libraries = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let libraries = libraries.unwrap_or_else(|| panic!("{FOLDER_VARIABLE} is not set: use tests/run.sh"));
    let python = script.ends_with(".py");
    let program = if python { libraries.join("venv/bin/python") } else { "node".into() };
    weft_testkit::record_server(name).unwrap();
    let mut command = Command::new(program);
    command
        .arg(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/interop")).join(script))
        .env("WEFT_INTEROP_DESCRIPTORS", DESCRIPTORS)
        .env("NODE_PATH", libraries.join("node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a script to its end: whether it ended well, and what it printed.
pub(crate) async fn run(name: &str, script: &str, arguments: &[&str]) -> (bool, String) {
    let running = command(name, script).args(arguments).stdin(Stdio::null()).output();
    let ended = timeout(DRIVE_LIMIT, running).await.expect("the script has not ended").unwrap();
    (ended.status.success(), String::from_utf8_lossy(&ended.stdout).into_owned())
}

impl Program {
    fn start(peer: Peer, arguments: &[&str]) -> Self {
        let (name, script) = match peer {
            Peer::Python => ("grpcio", "python/peer.py"),
            _ => ("grpc-js", "node/peer.js"),
        };
        let mut child = command(name, script).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, input, lines: BufReader::new(output).lines() }
    }
}

pub(super) async fn serve(peer: Peer, replica: usize, events: &Events) -> (SocketAddr, Guard) {
    let Program { _child: child, input, mut lines } = Program::start(peer, &["serve"]);
    let line = timeout(LIMIT, lines.next_line()).await.expect("the server says nothing").unwrap();
    let line = line.unwrap_or_else(|| panic!("the server of {peer:?} ended"));
    let port: u16 = line.strip_prefix("listening ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    let events = events.clone();
    TaskTracker::new().spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            events.tell(replica, line);
        }
    });
    (SocketAddr::from(([127, 0, 0, 1], port)), Box::new((child, input)))
}

pub(super) async fn drive(peer: Peer, address: SocketAddr, events: &Events) -> Results {
    let mut program = Program::start(peer, &["drive", &address.port().to_string()]);
    let mut results = Results::new();
    let reading = async {
        while let Some(line) = program.lines.next_line().await.unwrap() {
            let (what, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match what {
                "await" => {
                    events.until(rest).await;
                    program.input.write_all(b"go\n").await.unwrap();
                }
                "passed" => results.push((rest.to_owned(), Ok(()))),
                "failed" => {
                    let (case, why) = rest.split_once(' ').unwrap_or((rest, ""));
                    results.push((case.to_owned(), Err(why.replace(" | ", "\n    "))));
                }
                _ => panic!("the client of {peer:?} says {line}"),
            }
        }
    };
    let ended = timeout(DRIVE_LIMIT, reading).await;
    assert!(ended.is_ok(), "the client of {peer:?} has not ended; it came as far as {:?}", results.last());
    results
}
