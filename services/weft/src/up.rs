//! `weft up`: all five services in one process, wired to each other; with `--replicas`, some of them as processes of
//! their own.
//!
//! In order: configuration → the data directory is made and locked → every port is bound → the services start, those
//! that others call first → readiness. A stop goes the other way round: the gateway, so that nothing new comes in, with
//! the queue's streams and workers, then what they call.

mod config;
mod lock;
mod plan;
mod ports;
mod replicas;
mod signals;
mod site;
mod start;
mod summary;
mod wiring;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use weft_runtime::{config::Sources, telemetry};

use crate::{
    cli::UpArguments,
    session::Session,
    terminal::{self, Paint, printable},
};

pub use config::Config;
pub use plan::Plan;
use signals::Signals;
pub use start::{Mesh, up};

/// The exit code for a configuration that cannot be used (EX_USAGE), as the services have it.
const EXIT_USAGE: u8 = 64;
/// How long readiness is waited for before the summary is printed all the same, with what is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long threads may take to end when the process does.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs `weft up` until a signal ends it.
pub(crate) fn command(session: &Session, arguments: &UpArguments) -> anyhow::Result<ExitCode> {
    let loaded = Sources::read(arguments.config.as_deref()).and_then(|sources| {
        let sources = sources.with_insecure(arguments.insecure);
        Config::load_with(&sources, &arguments.data_dir, &arguments.replicas)
    });
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            terminal::tell(printable(&format!("error: {error}")));
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    if arguments.check_config {
        terminal::print(&config.render()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = weft_runtime::runtime()?;
    let outcome = runtime.block_on(run(config, session.out));
    runtime.shutdown_timeout(THREADS_TIMEOUT);
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn run(config: Config, paint: Paint) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let telemetry = telemetry::init("weft", &config.telemetry)?;
    let facts = summary::Facts::of(&config);
    let mesh = tokio::select! {
        mesh = up(config) => mesh?,
        () = signals.next() => return Ok(()),
    };
    mesh.wait_ready(READY_TIMEOUT).await;
    terminal::print(&summary::render(&facts, &mesh, started.elapsed(), paint))?;
    signals.next().await;
    terminal::tell(paint.dim("stopping; once more to stop at once"));
    tokio::select! {
        () = mesh.stop() => {}
        () = signals.next() => tracing::warn!("second signal, stopping at once"),
    }
    telemetry.shutdown().await;
    Ok(())
}
