//! Bytes up, down and over HTTP.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::program::Mesh;

/// A script with enough air in it to be optimized.
fn script() -> String {
    (0..200)
        .map(|n| format!("function first{n}(value) {{\n    // explain\n    return value + {n};\n}}\n"))
        .collect()
}

#[test]
fn a_public_asset_gets_a_url_and_a_private_one_does_not() {
    let mesh = Mesh::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.js");
    fs::write(&file, script()).unwrap();

    let said = mesh.run(&["asset", "put", "--public", file.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("app.js  ") && said.out.contains(" br (-"), "{}", said.out);
    let url = said.out.lines().find_map(|line| line.trim().strip_prefix("url ")).unwrap();
    assert!(url.starts_with(&mesh.gateway), "{url}");
    let answer = get(url);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.to_lowercase().contains("cache-control: public, max-age=31536000, immutable"), "{answer}");

    let id = said.out.lines().find_map(|line| line.trim().strip_prefix("id  ")).unwrap();
    let copy = folder.path().join("copy.js");
    assert_eq!(mesh.run(&["asset", "get", id, "-o", copy.to_str().unwrap()]).code, 0);
    assert_eq!(fs::read_to_string(&copy).unwrap(), script());
    assert!(mesh.run(&["asset", "ls"]).out.contains(id));

    let secret = folder.path().join("secret.txt");
    fs::write(&secret, "secret").unwrap();
    let said = mesh.run(&["asset", "put", secret.to_str().unwrap(), "/nowhere/x.css"]);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("secret.txt  6 B") && !said.out.contains("url"), "{said:?}");
    assert!(
        said.err.starts_with("failed /nowhere/x.css: cannot read /nowhere/x.css: No such file"),
        "{said:?}"
    );

    assert_eq!(mesh.run(&["asset", "rm", id]).code, 0);
    let said = mesh.run(&["asset", "get", id, "-o", copy.to_str().unwrap()]);
    assert_eq!(said.code, 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "a partial file was left behind");
}

fn get(url: &str) -> String {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
