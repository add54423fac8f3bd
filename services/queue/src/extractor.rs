//! Documents into chunks of text, in child processes: input from anywhere may hang, crash or bloat a child, and costs
//! one document its ingestion and nobody else anything.
//!
//! A child is this very program, started as `<program> extract`; it has no environment, and its memory and processor
//! time are limited by the kernel. The pool adds a limit in wall-clock time, after which the child is killed.

mod child;
pub mod chunk;
pub mod frame;
pub mod text;

use std::{
    io,
    process::{ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use frame::{Answer, Chunk, Request};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
};

use crate::config::Extractor as Limits;

/// The most that a child may answer: escapes can make JSON of text several times as long.
const MAX_ANSWER_FACTOR: usize = 8;
const MAX_COMPLAINT_BYTES: u64 = 4096;

/// What a child's `main` does after `extract`: limits itself and serves until its input ends.
#[must_use]
pub fn child_main() -> ExitCode {
    child::run(std::env::args().skip(2))
}

/// Why a document yields no text.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// It cannot, and trying again would not help.
    #[error("{0}")]
    Refused(String),
    /// No child could be started or reached.
    #[error("the extractor cannot be started")]
    Unavailable(#[source] io::Error),
}

/// A pool of children. Clones share it.
#[derive(Debug, Clone)]
pub struct Extractor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    slots: Semaphore,
    idle: Mutex<Vec<Worker>>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    documents: u32,
    used: Instant,
}

impl Extractor {
    /// A pool without children yet: the first document starts the first.
    #[must_use]
    pub fn new(limits: Limits) -> Extractor {
        let slots = Semaphore::new(limits.processes.max(1));
        Extractor { shared: Arc::new(Shared { limits, slots, idle: Mutex::new(Vec::new()) }) }
    }

    /// The chunks of a document's text.
    ///
    /// # Errors
    /// [`ExtractError::Refused`] with the reason when the document is to blame, a crash or an exceeded limit included.
    pub async fn extract(&self, request: &Request, bytes: &[u8]) -> Result<Vec<Chunk>, ExtractError> {
        let limits = &self.shared.limits;
        if bytes.len() as u64 > limits.max_bytes {
            let reason = format!("the file has {} bytes; at most {} are read", bytes.len(), limits.max_bytes);
            return Err(ExtractError::Refused(reason));
        }
        let _slot =
            self.shared.slots.acquire().await.map_err(|e| ExtractError::Unavailable(io::Error::other(e)))?;
        let mut worker = match self.idle() {
            Some(worker) => worker,
            None => Worker::start(limits).map_err(ExtractError::Unavailable)?,
        };
        match tokio::time::timeout(limits.timeout, worker.ask(request, bytes)).await {
            Ok(Ok(answer)) => {
                self.put_back(worker);
                match answer {
                    Answer::Chunks(chunks) => Ok(chunks),
                    Answer::Refused(reason) => Err(ExtractError::Refused(reason)),
                }
            }
            Ok(Err(error)) => Err(ExtractError::Refused(worker.post_mortem(&error).await)),
            Err(_) => {
                let _ = worker.child.kill().await; // and waits for it: no zombie
                let reason = format!("reading the document took longer than {:?}", limits.timeout);
                Err(ExtractError::Refused(reason))
            }
        }
    }

    /// Ends children that have had nothing to do for a while.
    pub fn reap(&self, idle_for: Duration) {
        let stale = |worker: &mut Worker| worker.used.elapsed() >= idle_for;
        let ended: Vec<Worker> = self.lock().extract_if(.., stale).collect();
        drop(ended); // killed by being dropped
    }

    fn idle(&self) -> Option<Worker> {
        let mut idle = self.lock();
        while let Some(mut worker) = idle.pop() {
            if matches!(worker.child.try_wait(), Ok(None)) {
                return Some(worker);
            }
        }
        None
    }

    fn put_back(&self, mut worker: Worker) {
        worker.documents += 1;
        worker.used = Instant::now();
        if worker.documents < self.shared.limits.recycle_after {
            self.lock().push(worker);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    fn start(limits: &Limits) -> io::Result<Worker> {
        let mut command = match limits.command.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            None => {
                let mut command = Command::new(this_program()?);
                command.arg("extract");
                command
            }
        };
        let memory_mib = limits.memory_bytes.div_ceil(1 << 20).to_string();
        let cpu_seconds = limits.cpu.as_secs().max(1).to_string();
        let mut child = command
            .args(["--memory-mib", &memory_mib, "--cpu-seconds", &cpu_seconds])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the extractor has no pipes"));
        };
        Ok(Worker { child, input, output, documents: 0, used: Instant::now() })
    }

    async fn ask(&mut self, request: &Request, bytes: &[u8]) -> io::Result<Answer> {
        frame::send(&mut self.input, &serde_json::to_vec(request)?).await?;
        frame::send(&mut self.input, bytes).await?;
        let limit = bytes.len().saturating_mul(MAX_ANSWER_FACTOR).saturating_add(64 << 10);
        let answer = frame::receive(&mut self.output, limit).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Says for people what a child died of.
    async fn post_mortem(mut self, error: &io::Error) -> String {
        let mut complaint = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            let mut limited = stderr.take(MAX_COMPLAINT_BYTES);
            let read = limited.read_to_string(&mut complaint);
            let _ = tokio::time::timeout(Duration::from_millis(200), read).await;
        }
        let _ = self.child.start_kill();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await;
        let status = ended.ok().and_then(Result::ok);
        tracing::warn!(?status, %error, complaint = complaint.trim(), "an extractor ended");
        cause(status, &complaint)
    }
}

fn cause(status: Option<ExitStatus>, complaint: &str) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    const SIGXCPU: i32 = 24;
    if complaint.contains("memory allocation") || complaint.contains("out of memory") {
        return "reading the document took more memory than allowed".to_owned();
    }
    match status.and_then(|status| status.signal()) {
        Some(SIGXCPU) => "reading the document took more processor time than allowed".to_owned(),
        Some(signal) => format!("reading the document crashed the extractor (signal {signal})"),
        None => "reading the document crashed the extractor".to_owned(),
    }
}

/// This program, even if its file has been replaced since it was started.
fn this_program() -> io::Result<std::path::PathBuf> {
    let own = std::path::Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() }
}
