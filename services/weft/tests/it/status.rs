//! What the mesh says of itself.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use weft_client::Client;

use crate::program::{ANY_PORTS, Mesh};

/// Longer than anything here takes on an overloaded machine.
const LIMIT: Duration = Duration::from_secs(60);
const FILES: u64 = 3;

/// A folder of documents, and their size in all.
fn documents() -> (TempDir, u64) {
    let folder = tempfile::tempdir().unwrap();
    let texts = (0..FILES).map(|n| (n, format!("# Pier {n}\n\nThe ferry leaves pier {n} at {n} o'clock.\n")));
    let size = texts.map(|(n, text)| {
        fs::write(folder.path().join(format!("{n}.md")), &text).unwrap();
        text.len() as u64
    });
    let size = size.sum();
    (folder, size)
}

/// `weft status --json`, as soon as it is as wanted.
fn status(mesh: &Mesh, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = mesh.run(&["status", "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let status = serde_json::from_str(&said.out).unwrap();
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{}", said.out);
    }
}

/// What a service says of itself.
fn stats<'a>(status: &'a Value, pool: &str) -> &'a Value {
    let services = status["services"].as_array().unwrap();
    &services.iter().find(|service| service["pool"] == pool).unwrap()["sum"]["stats"]
}

/// The member of a list that has this name.
fn named<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one[key] == name).unwrap()
}

fn queue<'a>(status: &'a Value, name: &str) -> &'a Value {
    named(&stats(status, "queue")["queues"], "queue", name)
}

#[test]
fn every_service_is_up_and_says_so_to_people_and_programs() {
    let mesh = Mesh::start();
    for service in ["gateway", "cache", "database", "queue", "assets"] {
        assert!(
            mesh.summary.lines().any(|line| line.starts_with(service) && line.contains(" ready")),
            "{}",
            mesh.summary
        );
    }
    assert!(!mesh.summary.contains('\u{1b}'), "escape codes without a terminal");

    let said = mesh.run(&["status"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.starts_with("gateway up ") && !said.out.contains('\u{1b}'), "{}", said.out);

    let said = mesh.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    for (pool, backend) in [("cache", "memory"), ("database", "sqlite"), ("assets", "filesystem")] {
        let services = status["services"].as_array().unwrap();
        let service = services.iter().find(|service| service["pool"] == pool).unwrap();
        assert_eq!(service["replicas"][0]["health"], "healthy", "{service}");
        assert_eq!(service["sum"]["stats"]["backend"], backend, "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_counted_by_every_service() {
    let mesh = Mesh::start();
    let (folder, size) = documents();
    assert!(mesh.command(&["ingest", "."]).current_dir(folder.path()).status().unwrap().success());
    let said = mesh.run(&["ask", "When does the ferry leave pier 2?"]);
    let chat = said.err.split("--chat ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert_eq!(mesh.run(&["ask", "--chat", chat, "And pier 1?"]).code, 0);
    let client = Client::connect(&mesh.gateway, "local").await.unwrap();
    for _ in 0..5 {
        client.chats().get(chat).await.unwrap();
    }

    let status = status(&mesh, |status| queue(status, "notification_queue")["succeeded"] == FILES + 2);
    for (name, succeeded) in [("document_queue", FILES), ("chat_queue", 2)] {
        let queue = queue(&status, name);
        assert_eq!(queue["succeeded"], succeeded, "{queue}");
        for counter in ["ready", "scheduled", "running", "working", "dead", "failed_attempts"] {
            assert_eq!(queue[counter], 0, "{counter}: {queue}");
        }
        assert_eq!(queue["oldest_ready_age_seconds"], 0.0);
    }

    let cache = stats(&status, "cache");
    let pattern = named(&cache["patterns"], "pattern", "chat");
    let count = |counter: &str| pattern[counter].as_u64().unwrap();
    assert!(count("hits") > 0 && count("misses") > 0 && count("stores") > 0, "{pattern}");
    let reads = count("hits") + count("misses") + count("waits");
    assert_eq!(pattern["hit_rate"], count("hits") as f64 / reads as f64);
    assert_eq!(
        named(&cache["patterns"], "pattern", "model")["hit_rate"],
        Value::Null,
        "nobody asked for one"
    );

    let database = stats(&status, "database");
    let pool = &database["pool"];
    let figure = |name: &str| pool[name].as_u64().unwrap();
    assert!((1..=figure("max")).contains(&figure("open")) && figure("idle") <= figure("open"), "{pool}");
    assert_eq!((figure("waiting"), figure("timeouts")), (0, 0));
    assert!(database["queries"].as_u64().unwrap() > 0, "{database}");

    let assets = stats(&status, "assets");
    assert_eq!((&assets["puts"], &assets["put_bytes"]), (&FILES.into(), &size.into()));
}

#[test]
fn jobs_that_nobody_takes_are_counted_and_grow_old() {
    let mesh = Mesh::configured(&ANY_PORTS.replace("[queue]\n", "[queue]\nroles = [\"api\"]\n"));
    let (folder, _) = documents();
    let mut ingest = mesh.command(&["ingest", "."]);
    let ingest = ingest.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut ingest = ingest.spawn().unwrap();
    let status = status(&mesh, |status| {
        let queue = queue(status, "document_queue");
        queue["ready"] == FILES && queue["oldest_ready_age_seconds"].as_f64().unwrap() > 0.0
    });
    ingest.kill().unwrap();
    ingest.wait().unwrap();
    assert_eq!(
        (&stats(&status, "queue")["workers"], &queue(&status, "document_queue")["working"]),
        (&0.into(), &0.into())
    );
    let said = mesh.run(&["status"]);
    let row = said.out.lines().find(|line| line.trim_start().starts_with("document_queue")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("3"), "{}", said.out);
}
