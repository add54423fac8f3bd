//! One command runs the mesh; the other subcommands are clients of it.
//!
//! Role: [`up`] assembles all five services in one process, or some as replicas that are processes of their own, wires
//! them to each other, keeps them alive and stops them in order. The client commands ([`ingest`], [`ask`] and the small
//! ones) speak to the gateway of any mesh through `weft-client`, and to people on a terminal or programs at a pipe.
//!
//! Non-goals: logic of its own. What a command needs more than once belongs in `weft-client`, what a service does
//! belongs in the service.
//!
//! Invariants: nothing starts before every port is bound and the data directory is locked; errors are one line that says
//! what to do; without a terminal there are no escape codes; no replica outlives the process that started it.

#![forbid(unsafe_code)]

pub mod ask;
mod asset;
mod cert;
mod cli;
mod documents;
mod failure;
mod gateway;
pub mod ingest;
mod jobs;
mod key;
mod search;
mod serve;
mod session;
mod status;
mod table;
mod terminal;
mod units;
pub mod up;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};
use session::Session;

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let session = Session::new(cli.mesh);
    let outcome = match cli.command {
        Command::Extract { .. } => return weft_queue::extractor::child_main(),
        Command::Serve(arguments) => return serve::command(arguments),
        Command::Up(arguments) => up::command(&session, &arguments),
        Command::Cert(arguments) => cert::command(&arguments),
        Command::Key(command) => key::command(&session, &command),
        command => client(&session, command),
    };
    outcome.unwrap_or_else(|error| {
        terminal::tell(failure::explain(&error));
        ExitCode::FAILURE
    })
}

fn client(session: &Session, command: Command) -> anyhow::Result<ExitCode> {
    let runtime = weft_runtime::runtime()?;
    runtime.block_on(async {
        match command {
            Command::Ingest(arguments) => ingest::command(session, &arguments).await,
            Command::Ask(arguments) => ask::command(session, &arguments).await,
            Command::Search(arguments) => search::command(session, &arguments).await,
            Command::Documents(arguments) => documents::command(session, &arguments).await,
            Command::Asset(command) => asset::command(session, &command).await,
            Command::Jobs(command) => jobs::command(session, &command).await,
            Command::Gateway(command) => gateway::command(session, &command).await,
            Command::Status(arguments) => status::command(session, &arguments).await,
            Command::Up(_)
            | Command::Cert(_)
            | Command::Key(_)
            | Command::Serve(_)
            | Command::Extract { .. } => Ok(ExitCode::SUCCESS),
        }
    })
}
