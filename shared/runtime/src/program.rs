//! A service as a program: command line, runtime, signals, exit code.

use std::{ffi::OsString, future::pending, path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    Config, Listeners, Running, Service,
    config::{ConfigError, Sources, render},
    start, telemetry,
};

/// The exit code for a configuration that cannot be used (EX_USAGE).
const EXIT_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// TOML file with the service's keys at the top level
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration, secrets redacted, and exit
    #[arg(long)]
    check_config: bool,
    /// Listen on addresses other than loopback although nobody is authenticated
    #[arg(long)]
    insecure: bool,
}

/// Runs a service until a signal ends it.
#[must_use]
pub fn main<S: Service>() -> ExitCode {
    run_with::<S>(std::env::args_os())
}

/// The same, with a command line of the caller's: the program's name first.
#[must_use]
pub fn run_with<S: Service>(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let config = match load::<S>(&arguments) {
        Ok(config) => config,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if arguments.check_config {
        #[allow(clippy::print_stdout)] // this is what was asked for
        {
            print!("{}", render(&config));
        }
        return ExitCode::SUCCESS;
    }
    run_service::<S>(config, arguments.config.is_some(), async |_| pending().await)
}

/// Runs a service from a configuration that is read already, until a signal ends it or `ended` returns.
#[must_use]
pub fn run_until<S: Service>(config: S::Config, ended: impl AsyncFnOnce(&Running)) -> ExitCode {
    run_service::<S>(config, false, ended)
}

fn run_service<S: Service>(
    config: S::Config,
    from_file: bool,
    ended: impl AsyncFnOnce(&Running),
) -> ExitCode {
    let outcome = runtime()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run::<S>(config, from_file, ended)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("weft-{}: {error:#}", S::NAME));
            ExitCode::FAILURE
        }
    }
}

/// The one runtime of a process.
///
/// # Errors
/// When the threads cannot be started.
#[allow(clippy::missing_errors_doc)]
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("weft").build()
}

fn load<S: Service>(arguments: &Arguments) -> Result<S::Config, ConfigError> {
    Sources::read(arguments.config.as_deref())?
        .with_insecure(arguments.insecure)
        .load(S::NAME, toml::Table::new())
}

async fn run<S: Service>(
    config: S::Config,
    from_file: bool,
    ended: impl AsyncFnOnce(&Running),
) -> anyhow::Result<()> {
    // Without a file there is nothing to read again, and a hang-up ends the process as it does any other.
    let mut hang_ups = if S::RELOADS && from_file { Some(signal(SignalKind::hangup())?) } else { None };
    let telemetry = telemetry::init(&format!("weft-{}", S::NAME), config.telemetry())?;
    let listeners = Listeners::bind(&config).await?;
    let running = start::<S>(config, listeners).await?;
    let reloading = async {
        loop {
            next(&mut hang_ups).await;
            running.reload();
        }
    };
    tokio::select! {
        () = termination() => {}
        () = ended(&running) => {}
        () = reloading => {}
    }
    tokio::select! {
        () = running.stop() => {}
        () = termination() => tracing::warn!("second signal, stopping at once"),
    }
    telemetry.shutdown().await;
    Ok(())
}

/// Returns at the next signal, if they are listened to. Cancellation safe.
async fn next(signals: &mut Option<Signal>) {
    let received = match signals {
        Some(signals) => signals.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Returns at SIGTERM or SIGINT.
pub async fn termination() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[allow(clippy::print_stderr)] // nothing else is set up yet, or any more
fn complain(text: &str) {
    eprintln!("{text}");
}
