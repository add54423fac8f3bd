//! The access log: one JSON line for each call, written by a thread of its own.
//!
//! A line that cannot be taken at once is dropped and counted: a slow disk must not slow calls. A file that was moved
//! away, as log rotation does, is opened anew.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

/// Lines that may wait to be written.
const WAITING_LIMIT: usize = 8192;
/// How long a written line may stay in the buffer, and how often a file is looked for under its name.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// How long the last lines may take at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// One call, as its line says it. Times are in milliseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    /// When it began, RFC 3339, to the microsecond.
    pub(crate) time: String,
    /// `POST` for gRPC.
    pub(crate) method: String,
    pub(crate) authority: String,
    /// Without the query, which may hold secrets.
    pub(crate) path: String,
    /// What the client spoke: `grpc`, `grpc-web`, `connect` or `http`.
    pub(crate) protocol: &'static str,
    /// Of the HTTP response.
    pub(crate) status: u16,
    /// Its number; absent for HTTP, and when the call ended without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_status: Option<u16>,
    /// Envoy's response flags, with commas between: `UH`, `UF`, `UT`, `DC`, `UF,URX`, …; `-` when all went well.
    pub(crate) flags: String,
    /// Of the request's body.
    pub(crate) bytes_received: u64,
    /// Of the response's body.
    pub(crate) bytes_sent: u64,
    /// From the request's headers to the last byte of the response.
    pub(crate) duration_ms: f64,
    /// From the request's headers to the response's headers; absent when there were none from a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_byte_ms: Option<f64>,
    /// How long it waited for a backend with room.
    pub(crate) queue_ms: f64,
    /// How often it was sent.
    pub(crate) attempts: u32,
    pub(crate) pool: String,
    /// The last backend it was sent to; empty when there was none.
    pub(crate) backend: String,
    /// The hash of what keeps it with others like it, in hexadecimal; absent where the pool has no `hash_on`, or the call
    /// not what that names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Who called.
    pub(crate) peer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) user_agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) trace_id: String,
}

/// Takes the lines. Clones are the same; the thread ends with the last.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens `target`, which is `stdout` or a file that is appended to.
    ///
    /// # Errors
    /// When it cannot be opened, naming it.
    pub(crate) fn open(target: &str) -> io::Result<Self> {
        let sink = Sink::open(target)?;
        let (lines, received) = sync_channel(WAITING_LIMIT);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || write_lines(&received, sink))?;
        Ok(Self { lines, dropped: Arc::default() })
    }

    /// Takes a line, or drops it when too many wait.
    pub(crate) fn write(&self, line: Line) {
        if self.lines.try_send(Message::Line(Box::new(line))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when all lines that were taken so far are in the file, or it takes too long.
    pub(crate) async fn flush(&self) {
        let (written, all) = oneshot::channel();
        if self.lines.try_send(Message::Flush(written)).is_ok() {
            let _ = timeout(FLUSH_TIMEOUT, all).await;
        }
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What the thread is told.
enum Message {
    Line(Box<Line>),
    /// To be answered when all lines before it are written.
    Flush(oneshot::Sender<()>),
}

enum Sink {
    Stdout(BufWriter<io::Stdout>),
    File { path: PathBuf, file: BufWriter<File> },
}

impl Sink {
    fn open(target: &str) -> io::Result<Self> {
        if target == "stdout" {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        }
        let path = PathBuf::from(target);
        let file = append_to(&path)?;
        Ok(Self::File { path, file })
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let out: &mut dyn Write = match self {
            Self::Stdout(out) => out,
            Self::File { file, .. } => file,
        };
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    }

    /// Flushes, and opens the file again if its name leads elsewhere by now.
    fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { path, file } => {
                file.flush()?;
                if !is_same(path, file.get_ref()) {
                    *file = append_to(path)?;
                }
                Ok(())
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<BufWriter<File>> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened
        .map(BufWriter::new)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn is_same(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (path.metadata(), file.metadata()) {
        (Ok(named), Ok(open)) => identity(named) == identity(open),
        _ => false,
    }
}

fn write_lines(received: &Receiver<Message>, mut sink: Sink) {
    let (mut failing, mut settled) = (false, Instant::now());
    loop {
        let next = received.recv_timeout(FLUSH_INTERVAL);
        let mut written = match &next {
            Ok(Message::Line(line)) => sink.line(line),
            Ok(Message::Flush(_)) | Err(_) => Ok(()),
        };
        if !matches!(next, Ok(Message::Line(_))) || settled.elapsed() >= FLUSH_INTERVAL {
            written = written.and(sink.settle());
            settled = Instant::now();
        }
        // Once, not for every line of a full disk.
        if let Err(error) = &written
            && !failing
        {
            tracing::error!(%error, "the access log cannot be written");
        }
        failing = written.is_err();
        match next {
            Ok(Message::Flush(written)) => drop(written.send(())),
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(Message::Line(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last one may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline, "it never came to be");
            thread::yield_now();
        }
    }

    #[test]
    fn lines_are_written_and_a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::open(path.to_str().unwrap()).unwrap();
        log.write(Line { path: "/a\"b\n".into(), attempts: 2, ..Line::default() });
        until(|| lines(&path).len() == 1);
        assert_eq!(lines(&path)[0]["path"], "/a\"b\n");
        assert_eq!(lines(&path)[0]["attempts"], 2);
        std::fs::rename(&path, &moved).unwrap();
        until(|| {
            log.write(Line::default());
            !lines(&path).is_empty()
        });
        assert!(!lines(&moved).is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = AccessLog::open("/nowhere/access.log").unwrap_err();
        assert!(error.to_string().contains("/nowhere/access.log"), "{error}");
    }
}
