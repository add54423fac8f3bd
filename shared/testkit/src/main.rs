//! Private servers for a person at a terminal: `cargo run -p weft-testkit -- servers`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the configuration is its output")]

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use weft_testkit::Servers;

/// Private Redis, PostgreSQL, RabbitMQ and S3, for tests and for trying things out.
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        Command::Servers { write } => runtime.block_on(servers(write)),
        Command::S3 { root, port } => Ok(runtime.block_on(weft_testkit::serve_s3(&root, port))?),
    }
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
