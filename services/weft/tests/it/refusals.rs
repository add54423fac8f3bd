//! What goes wrong is told in one clear line, and nothing is left behind.

use std::net::TcpListener;

use crate::program::{ANY_PORTS, Mesh, run, weft};

#[test]
fn without_a_mesh_every_command_says_how_to_start_one() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let at = ["--gateway", &url, "--admin", &url];
    for command in [
        &["ask", "why?"][..],
        &["ingest", "Cargo.toml"],
        &["search", "x"],
        &["documents"],
        &["asset", "ls"],
        &["jobs", "dead"],
        &["status"],
        &["gateway", "pools"],
    ] {
        let said = run(&[&at[..], command].concat());
        let expected = format!("error: nothing answers at {url}: start the mesh with `weft up`\n");
        assert_eq!(
            (said.code, said.err.as_str(), said.out.as_str()),
            (1, expected.as_str(), ""),
            "{command:?}"
        );
    }
}

#[test]
fn addresses_users_and_files_that_cannot_be_are_named() {
    for (arguments, expected) in [
        (
            &["--gateway", "https://h", "ask", "x"][..],
            "error: `https://h` is not an address: it must begin with http://",
        ),
        (&["--user", "two words", "documents"], "error: `two words` is no user name"),
        (&["ingest", "nowhere.md", "missing"], "error: nowhere.md: no such file or folder\n"),
    ] {
        let said = run(arguments);
        assert_eq!(said.code, 1);
        assert!(said.err.starts_with(expected), "{}", said.err);
    }
}

#[test]
fn every_taken_port_is_named_before_anything_starts() {
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = [&taken[0], &taken[1]].map(|listener| listener.local_addr().unwrap().to_string());
    let folder = tempfile::tempdir().unwrap();
    let text = ANY_PORTS.replacen("\"127.0.0.1:0\"", &format!("\"{one}\""), 1);
    let text =
        text.replacen("[cache]\naddress = \"127.0.0.1:0\"", &format!("[cache]\naddress = \"{two}\""), 1);
    std::fs::write(folder.path().join("weft.toml"), text).unwrap();
    let data = folder.path().join("data");
    let output = weft()
        .current_dir(folder.path())
        .args(["up", "--config", "weft.toml", "--data-dir", "data"])
        .output();
    let output = output.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.contains(&format!("gateway.listeners[0].address: cannot listen on {one}: the port is in use")),
        "{err}"
    );
    assert!(err.contains(&format!("cache.address: cannot listen on {two}: the port is in use")), "{err}");
    assert!(!data.join("database").exists() && !data.join("queue").exists(), "something was started");
}

#[test]
fn a_data_directory_has_one_mesh_at_a_time() {
    let mesh = Mesh::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weft.toml");
    std::fs::write(&config, ANY_PORTS).unwrap();
    let data = mesh.data_dir();
    let said = run(&["up", "--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert_eq!(said.code, 1);
    let expected =
        format!("is in use by process {}; stop that mesh, or give another --data-dir\n", mesh.pid());
    assert!(said.err.ends_with(&expected), "{}", said.err);
}

#[test]
fn everything_wrong_with_a_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weft.toml");
    std::fs::write(&config, "[cache]\ntypo = 1\n[[gateway.listeners]]\naddress = \"0.0.0.0:1\"\n[sea]\n")
        .unwrap();
    let said = run(&["up", "--config", config.to_str().unwrap(), "--check-config"]);
    assert_eq!(said.code, 64);
    for expected in
        ["cache.typo: unknown key", "gateway.listeners[0].address: 0.0.0.0:1 is not", "sea: unknown key"]
    {
        assert!(said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn embedded_stores_refuse_replicas_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let output = weft()
        .current_dir(folder.path())
        .args(["up", "--data-dir", "data", "--replicas", "database=3,cache=2"])
        .args(["--replicas", "queue=2,assets=2,gateway=2,search=1,cache=x"])
        .output();
    let said = crate::program::Said::from(output.unwrap());
    assert_eq!((said.code, said.out.as_str()), (64, ""));
    for expected in [
        "--replicas cache=2: an in-process cache is seen by its own process only; set cache.redis.url or REDIS_URL",
        "--replicas database=3: SQLite is written by one process only; set database.database.url or DATABASE_URL",
        "--replicas queue=2: the SQLite job store is written by one process only; set queue.jobs.url",
        "--replicas assets=2: a local directory is kept by one process only; set assets.storage.s3.bucket",
        "--replicas gateway=2: there is one gateway",
        "--replicas search=1: there is no service `search`",
        "--replicas cache=x: `x` is not a number from 1 to 32",
    ] {
        assert!(said.err.contains(expected), "{expected}: {}", said.err);
    }
    assert_eq!(said.err.lines().count(), 8, "{}", said.err);
    assert!(!folder.path().join("data").exists(), "something was started");
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let output =
        weft().args(["up", "--check-config"]).env("REDIS_URL", "redis://u:hunter2@h:1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.contains("redis://***@h:1") && !text.contains("hunter2"), "{text}");
}
