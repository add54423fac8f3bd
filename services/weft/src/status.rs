//! `weft status`: every replica of every service, and each service's sum.

mod assets;
mod cache;
mod database;
mod model;
mod queue;
mod text;

use std::process::ExitCode;

use crate::{cli::StatusArguments, session::Session, terminal};

use model::Status;
pub(crate) use model::health;

#[cfg(test)]
mod tests;

/// Runs `weft status`.
pub(crate) async fn command(session: &Session, arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let (gateway, replicas) = session.admin().await?.stats().await?;
    let status = Status::new(&gateway, replicas);
    let text = if arguments.json {
        serde_json::to_string_pretty(&status)? + "\n"
    } else {
        text::render(&status, session.out)
    };
    terminal::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
