//! A private Redis.
use std::{ops::Deref, path::Path, time::Duration};

use crate::{
    Error, Result, Server,
    process::{Account, Launch},
    server::{Place, Plan, Probe},
    watchdog::Life,
};

const START_WITHIN: Duration = Duration::from_secs(20);

/// A private Redis; [`Server`] has what can be done to it.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts one that keeps nothing on disk: it is empty after a restart.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Server::start(&Life::Ours, volatile).await.map(Self)
    }

    /// Starts one that logs every write to disk before it answers: after a restart it holds all of them.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn persistent() -> Result<Self> {
        Server::start(&Life::Ours, persistent).await.map(Self)
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

pub(crate) fn volatile(place: &Place) -> Result<Plan> {
    plan(place, &["--appendonly", "no"])
}

fn persistent(place: &Place) -> Result<Plan> {
    plan(place, &["--appendonly", "yes", "--appendfsync", "always"])
}

fn plan(place: &Place, persistence: &[&str]) -> Result<Plan> {
    let program = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/valkey-server"];
    let program = program.into_iter().find(|path| Path::new(path).exists()).ok_or_else(missing)?;
    let port = place.ports[0].to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", "."];
    let server = Launch::new(program, Account::Own, arguments.iter().chain(persistence));
    Ok(Plan {
        name: "Redis",
        files: Vec::new(),
        setup: Vec::new(),
        launches: vec![server],
        probe: Probe { send: b"PING\r\n".to_vec(), expect: b"+PONG" },
        within: START_WITHIN,
        url: format!("redis://127.0.0.1:{port}/0"),
    })
}

fn missing() -> Error {
    Error::Missing {
        what: "redis-server (in /usr/bin or /usr/local/bin)".into(),
        install: "apt-get install redis-server (or run tests/run.sh as root, which does)".into(),
    }
}
