//! `weft serve`: one service in this process, as `weft-<service>` runs it; or, with `--supervised`, as a replica of the
//! `weft up` that started it.
//!
//! A replica reads its configuration from stdin, as TOML up to a NUL. The end of stdin comes when its parent wants it to
//! stop, or is gone, and then it drains. On stdout it says a line whenever its readiness changes, the first one when it
//! serves.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::sync::oneshot;
use toml::Table;
use weft_runtime::{Config as _, Running, Service, config::Sources};

use crate::{
    cli::{ServeArguments, Served},
    terminal,
};

/// What a parent starts a replica with, before the service's name.
pub(crate) const ARGUMENTS: [&str; 2] = ["serve", "--supervised"];
/// What ends the configuration. No TOML holds it.
pub(crate) const END: u8 = 0;

/// The exit code for a configuration that cannot be used (EX_USAGE), as the services have it.
const EXIT_USAGE: u8 = 64;
const READY: &str = "ready";
const UNREADY: &str = "not ready: ";
/// What stopping may take beyond the drain. Without a parent there is nobody else to end a process that hangs.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// Runs `weft serve`.
pub(crate) fn command(arguments: ServeArguments) -> ExitCode {
    match arguments.service {
        Served::Gateway => serve::<weft_gateway::Gateway>(arguments),
        Served::Cache => serve::<weft_cache::Cache>(arguments),
        Served::Database => serve::<weft_database::Database>(arguments),
        Served::Queue => serve::<weft_queue::Queue>(arguments),
        Served::Assets => serve::<weft_assets::Assets>(arguments),
    }
}

fn serve<S: Service>(arguments: ServeArguments) -> ExitCode {
    if !arguments.supervised {
        let program = format!("weft-{}", S::NAME).into();
        return weft_runtime::run_with::<S>([program].into_iter().chain(arguments.arguments));
    }
    match replica::<S>() {
        Ok(code) => code,
        Err(error) => {
            terminal::tell(error);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn replica<S: Service>() -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    io::stdin().lock().read_until(END, &mut text)?;
    if text.pop() != Some(END) {
        return Ok(ExitCode::FAILURE); // the parent was gone before it had said everything
    }
    let sources = Sources::from_text(&String::from_utf8(text)?)?;
    let config: S::Config = sources.load(S::NAME, Table::new())?;
    let lifecycle = config.lifecycle();
    let told = end_of_stdin(lifecycle.drain_delay + lifecycle.drain_timeout + STOP_SLACK)?;
    Ok(weft_runtime::run_until::<S>(config, async move |running| {
        tokio::select! {
            () = tell(running) => {}
            _ = told => {}
        }
    }))
}

/// Comes at the end of stdin. If the process is still there `limit` later, it is ended.
fn end_of_stdin(limit: Duration) -> io::Result<oneshot::Receiver<()>> {
    let (tell, told) = oneshot::channel();
    let watch = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = tell.send(());
        let (_kept, never) = mpsc::channel::<()>();
        let _ = never.recv_timeout(limit);
        std::process::exit(1);
    };
    thread::Builder::new().name("parent".to_owned()).spawn(watch)?;
    Ok(told)
}

/// Says whether the service is ready, whenever that changes.
async fn tell(running: &Running) {
    let mut ready = running.ready();
    loop {
        // Without a parent that reads, the end of stdin is near.
        let _ = writeln!(io::stdout().lock(), "{}", line(&ready));
        ready = running.readiness().next(&ready).await;
    }
}

fn line(ready: &Result<(), String>) -> String {
    match ready {
        Ok(()) => READY.to_owned(),
        Err(reason) => format!("{UNREADY}{}", reason.replace('\n', " ")),
    }
}

/// What a replica said with a line of its stdout, if it is one of its own.
pub(crate) fn readiness(line: &str) -> Option<Result<(), String>> {
    if line == READY { Some(Ok(())) } else { Some(Err(line.strip_prefix(UNREADY)?.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_understood_as_it_was_told() {
        for told in [Ok(()), Err("PostgreSQL: connection refused".to_owned()), Err(String::new())] {
            assert_eq!(readiness(&line(&told)), Some(told));
        }
        assert_eq!(readiness(&line(&Err("a\nb".to_owned()))), Some(Err("a b".to_owned())));
        assert_eq!(readiness("something else"), None);
    }
}
