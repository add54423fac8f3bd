//! One server for all tests of a run, where starting one per test would take longer than the tests.
use std::{
    fs::{self, File},
    os::unix::process::parent_id,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result, Server, environment,
    server::{Place, Plan},
    watchdog::Life,
};

/// Set by cargo-nextest, which runs every test in a process of its own.
const RUN_VARIABLE: &str = "NEXTEST_RUN_ID";

/// The server of that name of this run; it is started if it is the first to be asked for.
///
/// Under `cargo test` a run is one test process. Under cargo-nextest it is all the processes of one `cargo nextest run`:
/// they find the server by a file in the temporary folder, and it ends with the runner.
pub(crate) async fn server(name: &str, plan: fn(&Place) -> Result<Plan>) -> Result<Server> {
    match environment::variable(RUN_VARIABLE) {
        None => Server::start(&Life::Ours, plan).await,
        Some(run) => {
            let registry = std::env::temp_dir().join(format!("weft-testkit-run-{run}"));
            of_run(&registry, parent_id(), name, plan).await
        }
    }
}

async fn of_run(
    registry: &Path,
    runner: u32,
    name: &str,
    plan: fn(&Place) -> Result<Plan>,
) -> Result<Server> {
    fs::create_dir_all(registry).map_err(Error::io("create", registry))?;
    let _only_one = lock(registry.join(format!("{name}.lock"))).await?;
    let entry = registry.join(name);
    if let Some(place) = fs::read_to_string(&entry).ok().as_deref().and_then(parse) {
        return Server::attach(place, plan).await;
    }
    let life = Life::Run { runner, registry: registry.to_owned() };
    let server = Server::start(&life, plan).await?;
    fs::write(&entry, print(server.place())).map_err(Error::io("write", entry))?;
    // Dropped here without ending the server; like the others, this process only uses it.
    Server::attach(server.place().clone(), plan).await
}

/// Waits for the lock; it is released when the file is dropped.
async fn lock(path: PathBuf) -> Result<File> {
    let taken = tokio::task::spawn_blocking(move || {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        file.lock().map_err(Error::io("lock", path))?;
        Ok(file)
    });
    taken.await.map_err(|error| Error::io("lock", "the registry")(error.into()))?
}

fn print(place: &Place) -> String {
    let [first, second, third] = place.ports;
    format!("{first}\n{second}\n{third}\n{}\n", place.folder.display())
}

fn parse(text: &str) -> Option<Place> {
    let mut lines = text.lines();
    let mut port = || lines.next()?.parse().ok();
    let ports = [port()?, port()?, port()?];
    Some(Place { ports, folder: PathBuf::from(lines.next()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_the_registry() {
        let place = Place { ports: [15_001, 15_002, 15_003], folder: "/tmp/weft testkit".into() };
        let read = parse(&print(&place)).unwrap();
        assert_eq!((read.ports, read.folder), (place.ports, place.folder));
        assert!(parse("15001\n").is_none());
    }
}

#[cfg(all(test, feature = "real-backends"))]
mod real_tests {
    use std::{process::Command, time::Duration};

    use tokio::net::TcpStream;

    use super::*;
    use crate::eventually;

    #[tokio::test]
    async fn processes_of_a_run_share_one_server_that_ends_with_the_runner() {
        let folder = tempfile::tempdir().unwrap();
        let registry = folder.path().join("run");
        let mut runner = Command::new("sleep").arg("600").spawn().unwrap();
        let ask = || of_run(&registry, runner.id(), "redis", crate::redis::volatile);
        let (first, second) = tokio::try_join!(ask(), ask()).unwrap();
        assert_eq!(first.address(), second.address());
        assert!(matches!(first.stop().await, Err(Error::Shared { .. })));
        let address = first.address();
        drop((first, second));
        TcpStream::connect(address).await.unwrap();
        runner.kill().unwrap();
        runner.wait().unwrap();
        eventually(Duration::from_secs(30), || async {
            TcpStream::connect(address).await.is_err() && !registry.exists()
        })
        .await;
    }
}
