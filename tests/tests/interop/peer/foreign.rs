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

impl Program {
    fn start(peer: Peer, arguments: &[&str]) -> Self {
        let libraries = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
        let libraries = libraries.unwrap_or_else(|| panic!("{FOLDER_VARIABLE} is not set: use tests/run.sh"));
        let sources = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"));
        let (name, program, script) = match peer {
            Peer::Python => ("grpcio", libraries.join("venv/bin/python"), sources.join("python/peer.py")),
            _ => ("grpc-js", "node".into(), sources.join("node/peer.js")),
        };
        weft_testkit::record_server(name).unwrap();
        let mut child = Command::new(&program)
            .arg(script)
            .args(arguments)
            .env("WEFT_INTEROP_DESCRIPTORS", DESCRIPTORS)
            .env("NODE_PATH", libraries.join("node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
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
