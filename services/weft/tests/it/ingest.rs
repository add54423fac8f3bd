//! Files become documents: all of them, once, whatever dies meanwhile.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::program::Mesh;

/// Enough to be interrupted half-way.
const MANY: usize = 300;

fn write_many(folder: &Path) {
    for n in 0..MANY {
        let text = format!(
            "# Note {n}\n\nThe lighthouse keeper counted {n} ships.\n\n{}\n",
            "They sailed on. ".repeat(n % 40)
        );
        fs::write(folder.join(format!("note-{n:03}.md")), text).unwrap();
    }
}

/// State and path of every document.
fn documents(mesh: &Mesh) -> Vec<(String, String)> {
    let said = mesh.run(&["documents"]);
    assert_eq!(said.code, 0, "{said:?}");
    let rows = said.out.lines().filter(|line| !line.starts_with("state"));
    let word = |line: &str, last: bool| {
        let mut words = line.split_whitespace();
        if last { words.next_back().unwrap().to_owned() } else { words.next().unwrap().to_owned() }
    };
    rows.map(|line| (word(line, false), word(line, true))).collect()
}

fn assert_all_ready_once(mesh: &Mesh) {
    let documents = documents(mesh);
    let paths: BTreeSet<_> = documents.iter().map(|(_, path)| path).collect();
    assert_eq!((documents.len(), paths.len()), (MANY, MANY));
    assert!(documents.iter().all(|(state, _)| state == "ready"), "{documents:?}");
}

fn start(mesh: &Mesh, folder: &Path) -> Child {
    let mut command = mesh.command(&["ingest", "."]);
    command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until some documents, but not nearly all, are there.
fn wait_for_some(mesh: &Mesh) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while documents(mesh).len() < MANY / 10 {
        assert!(Instant::now() < deadline, "nothing was ingested");
    }
}

#[test]
fn a_second_run_changes_nothing_and_a_changed_file_is_replaced() {
    let mesh = Mesh::start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.md"), "# One\n\nThe harbour is deep.\n").unwrap();
    fs::write(folder.path().join("b.md"), "# Two\n\nThe harbour is wide.\n").unwrap();
    fs::write(folder.path().join("c.md"), [0xff, 0xfe, 0x00, 0xd8, 0x01]).unwrap();
    let ingest = || {
        let output = mesh.command(&["ingest", "."]).current_dir(folder.path()).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, out, err) = ingest();
    assert!(out.starts_with("2 ready, 0 unchanged, 1 failed") && code == 1, "{out} {err}");
    assert!(err.starts_with("failed c.md: ") && !err.contains('\u{1b}'), "{err}");

    fs::remove_file(folder.path().join("c.md")).unwrap();
    let (code, out, err) = ingest();
    assert!(out.starts_with("0 ready, 2 unchanged, 0 failed") && code == 0, "{out} {err}");

    fs::write(folder.path().join("b.md"), "# Two\n\nThe harbour is frozen.\n").unwrap();
    let (code, out, err) = ingest();
    assert!(out.starts_with("1 ready, 1 unchanged, 0 failed") && code == 0, "{out} {err}");
    assert!(mesh.run(&["search", "frozen harbour"]).out.contains("frozen"));
    assert!(!mesh.run(&["search", "wide harbour"]).out.contains("wide"), "the old passage is still found");

    // Another user has none of it.
    assert!(mesh.run(&["--user", "ada", "documents"]).out.is_empty());
}

#[test]
fn an_ingestion_that_was_killed_is_finished_by_the_next() {
    let mesh = Mesh::start();
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    let mut first = start(&mesh, folder.path());
    wait_for_some(&mesh);
    first.kill().unwrap();
    first.wait().unwrap();
    let second = start(&mesh, folder.path()).wait_with_output().unwrap();
    assert!(second.status.success(), "{second:?}");
    assert_all_ready_once(&mesh);
}

#[test]
fn an_ingestion_outlives_a_mesh_that_is_killed_and_comes_back() {
    let mut mesh = Mesh::start();
    let folder = tempfile::tempdir().unwrap();
    write_many(folder.path());
    let ingestion = start(&mesh, folder.path());
    wait_for_some(&mesh);
    mesh.kill_and_restart();
    let output = ingestion.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_all_ready_once(&mesh);
}
