//! Private servers for a person at a terminal, `cargo run -p weft-testkit -- servers`, and what a benchmark starts.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the configuration or the report is its output")]

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use weft_testkit::{
    Servers,
    bench::{self, Backend, BackendOptions, Load, Streams},
};

/// Private Redis, PostgreSQL, RabbitMQ and S3, for tests and for trying things out; backends and load for benchmarks.
#[derive(Debug, Parser)]
#[command(name = "weft-testkit", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts all four and prints a configuration for `weft up --config`; they end with Ctrl-C and take their data along.
    Servers {
        /// Writes the configuration to this file instead.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// A gRPC backend that answers any call as the call asks.
    ///
    /// HTTP/2 with prior knowledge. A call's header `x-service-us` says for how long it is served, `x-bytes` how large the
    /// message of the answer is (0 without it). The answer has the header `x-backend`, and status 0 in the trailers.
    ///
    /// With `x-messages` the answer is a stream of so many messages, the first one at once, the others each
    /// `x-interval-us` after the one before. A message begins with its number and the time at which it was sent, in
    /// nanoseconds since the epoch, 8 bytes each.
    ///
    /// A request to `/control` on the same port, HTTP/1.1 too, changes how calls that come later are answered. Its header
    /// `x-mode` is `well`, `slow=10` (ten times the service time), `fail_fast` (UNAVAILABLE at once) or `hang` (never).
    /// `grpc.health.v1.Health/Check` says SERVING in every mode, `hang` too: only by its calls can anybody notice.
    ///
    /// `x-mode: reset` begins the account anew, and `x-mode: report` answers it as JSON: calls, their mean number in
    /// flight (weighted by time), and samples `[tick, in flight]`, a tick being 10 ms since the epoch.
    Backend(BackendOptions),
    /// Sends gRPC calls to a gateway when they are due, whatever became of those before, and reports as JSON.
    ///
    /// Latency runs from when a call was due, not from when it could be sent. `added_ms` is latency without the service
    /// time that the call asked for; the backend's timers add one or two milliseconds of it unless that is 0. Quantiles are
    /// those of calls that ended well; the others are counted by how they ended. Ends when the last call has.
    Load(Load),
    /// Opens streams through a gateway, holds them all at once, and reports as JSON.
    ///
    /// `{"open": N}` says that N streams have their first message and the others have ended without. The report follows
    /// when all have ended: messages due and received, streams by how they ended, and quantiles of how late messages
    /// were, from when the backend sent them to when they came.
    Streams(Streams),
    /// Serves the folders in a folder as S3 buckets.
    #[command(hide = true)]
    S3 {
        #[arg(long)]
        root: PathBuf,
        #[arg(long)]
        port: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-testkit: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = runtime(&command)?;
    match command {
        Command::Servers { write } => runtime.block_on(servers(write)),
        Command::Backend(options) => runtime.block_on(backend(&options)),
        Command::Load(load) => {
            println!("{}", runtime.block_on(bench::run(&load))?.json());
            Ok(())
        }
        Command::Streams(streams) => {
            let opened = |count| println!("{}", serde_json::json!({ "open": count }));
            println!("{}", runtime.block_on(bench::hold(&streams, opened))?.json());
            Ok(())
        }
        Command::S3 { root, port } => Ok(runtime.block_on(weft_testkit::serve_s3(&root, port))?),
    }
}

/// A benchmark starts several of them, which share the machine with what is measured: one thread each.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    let mut builder = match command {
        Command::Backend(_) | Command::Load(_) | Command::Streams(_) => Builder::new_current_thread(),
        Command::Servers { .. } | Command::S3 { .. } => Builder::new_multi_thread(),
    };
    builder.worker_threads(2).enable_all().build()
}

async fn backend(options: &BackendOptions) -> anyhow::Result<()> {
    let backend = Backend::bind(options).await.with_context(|| format!("listen on port {}", options.port))?;
    eprintln!("{} listens on {}", options.name, backend.address());
    match backend.serve().await? {}
}

async fn servers(write: Option<PathBuf>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    eprintln!("starting Redis, PostgreSQL, RabbitMQ and S3 (RabbitMQ takes several seconds) ...");
    let servers = tokio::select! {
        servers = Servers::start() => servers?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let config = servers.config();
    match &write {
        Some(file) => {
            fs::write(file, &config).with_context(|| format!("write {}", file.display()))?;
            eprintln!("all four are up; next: weft up --config {}", file.display());
        }
        None => {
            println!("{config}");
            eprintln!("all four are up; put the lines above into a file and: weft up --config FILE");
        }
    }
    eprintln!("Ctrl-C ends them and removes their data");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
