//! Services as processes of their own. One of each is enough for these, and embedded stores serve one.

use std::{
    fs::{self, File},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use weft_client::Client;
use weft_testkit::{eventually, eventually_ok};

use crate::program::{Mesh, Said, alive, send, weft};

/// Longer than every drain timeout together: whoever takes this long hangs.
const LIMIT: Duration = Duration::from_secs(60);
const APART: [&str; 2] = ["--replicas", "database=1,cache=1,queue=1,assets=1"];
const SERVICES: [&str; 4] = ["cache", "database", "queue", "assets"];

/// The one replica of a service, as `weft status` shows it.
fn replica(mesh: &Mesh, pool: &str) -> Value {
    let status: Value = serde_json::from_str(&mesh.run(&["status", "--json"]).out).unwrap();
    let service =
        status["services"].as_array().unwrap().iter().find(|service| service["pool"] == pool).unwrap();
    service["replicas"][0].clone()
}

/// Its process; `None` while it does not answer.
fn pid(mesh: &Mesh, pool: &str) -> Option<u32> {
    u32::try_from(replica(mesh, pool)["pid"].as_u64()?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_back_under_another_process_at_the_same_address() {
    let mesh = Mesh::start_with(&APART, Stdio::inherit());
    let before = (pid(&mesh, "database").unwrap(), replica(&mesh, "database")["address"].clone());
    assert!(mesh.summary.contains(&format!("ready (process {})", before.0)), "{}", mesh.summary);
    assert_ne!(Some(mesh.pid()), pid(&mesh, "cache"), "it is a process of its own");

    let client = Client::connect(&mesh.gateway, "ada").await.unwrap();
    let chat = client.chats().create("kept", "", "").await.unwrap();
    send(before.0, "KILL");
    eventually(LIMIT, || async { pid(&mesh, "database").is_some_and(|pid| pid != before.0) }).await;
    assert_eq!(replica(&mesh, "database")["address"], before.1);
    assert_eq!(eventually_ok(LIMIT, || async { client.chats().get(&chat.id).await }).await.title, "kept");
    assert_eq!(mesh.signal_and_wait("TERM", LIMIT), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_outlives_its_parent_however_that_ends() {
    for signal in ["TERM", "INT", "KILL"] {
        let mesh = Mesh::start_with(&APART, Stdio::inherit());
        let pids = SERVICES.map(|service| pid(&mesh, service).unwrap());
        assert!(pids.iter().all(|&pid| alive(pid)), "{pids:?}");
        let code = mesh.signal_and_wait(signal, LIMIT);
        if signal == "KILL" {
            eventually(LIMIT, || async { !pids.iter().any(|&pid| alive(pid)) }).await;
        } else {
            assert_eq!(code, 0);
            assert!(!pids.iter().any(|&pid| alive(pid)), "the parent waits for them: {pids:?}");
        }
    }
}

#[test]
fn a_replica_that_cannot_start_is_told_with_its_last_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/database"), "a file where a folder should be").unwrap();
    fs::write(folder.path().join("weft.toml"), crate::program::ANY_PORTS).unwrap();
    let output = weft()
        .current_dir(folder.path())
        .args(["up", "--config", "weft.toml", "--data-dir", "data", "--replicas", "database=1"])
        .output();
    let said = Said::from(output.unwrap());
    assert_eq!(said.code, 1, "{}", said.err);
    let told = said.err.lines().last().unwrap();
    assert!(
        told.starts_with("error: cannot start the database: database-1 ended with exit status: 1"),
        "{told}"
    );
    assert!(told.contains("its last line: weft-database: data_dir: cannot create"), "{told}");
    assert!(
        said.err.contains("database-1 | weft-database: "),
        "its log is told under its name: {}",
        said.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_keeps_dying_is_told_and_comes_back_once_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mesh = Mesh::start_with(&APART, File::create(&log).unwrap().into());
    let (home, aside) = (mesh.data_dir().join("database"), mesh.data_dir().join("aside"));
    let killed = pid(&mesh, "database").unwrap();
    fs::rename(&home, &aside).unwrap();
    fs::write(&home, "a file where a folder should be").unwrap();
    send(killed, "KILL");
    let logged = |text: &str| fs::read_to_string(&log).unwrap().lines().any(|line| line.contains(text));
    eventually(LIMIT, || async { logged("keeps dying at start, and now ended with exit status: 1") }).await;
    assert!(logged("ended with signal: 9 (SIGKILL)"));
    assert!(logged("its last line: weft-database: data_dir: cannot create"));

    fs::remove_file(&home).unwrap();
    fs::rename(&aside, &home).unwrap();
    eventually(LIMIT, || async { pid(&mesh, "database").is_some_and(|pid| pid != killed) }).await;
    assert_eq!(mesh.signal_and_wait("TERM", LIMIT), 0);
}
