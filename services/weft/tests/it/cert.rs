//! Certificates for development.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use weft_mesh::tls;

use crate::program::run;

fn server(folder: &Path, name: &str) -> tls::Server {
    let pair = tls::Certificate {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    tls::Server { certificates: vec![pair], ..tls::Server::default() }
}

#[test]
fn an_authority_is_made_once_and_vouches_for_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("certificates");
    let made = |names: &[&str]| run(&[&["cert", "--out", out.to_str().unwrap()], names].concat());
    let said = made(&["chat.local", "127.0.0.1"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for expected in ["chat.local.pem", "for chat.local, 127.0.0.1, 365 days", "curl --cacert"] {
        assert!(said.out.contains(expected), "{expected} is not in {}", said.out);
    }
    server(&out, "chat.local").check().unwrap();
    let authority = fs::read(out.join("ca.pem")).unwrap();
    assert_eq!(made(&["*.api.local", "--days", "7"]).code, 0);
    server(&out, "_.api.local").check().unwrap();
    assert_eq!(fs::read(out.join("ca.pem")).unwrap(), authority, "it is used again");
    tls::Client { ca: Some(out.join("ca.pem")), ..tls::Client::default() }.check().unwrap();
    for key in ["ca.key", "chat.local.key"] {
        let mode = fs::metadata(out.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let said = run(&["cert", "--out", out, "\u{e9}"]);
    assert!(said.code == 1 && said.err.starts_with("error: these are no names"), "{}", said.err);
    fs::write(folder.path().join("ca.key"), "x").unwrap();
    let said = run(&["cert", "--out", out, "a"]);
    assert!(said.code == 1 && said.err.contains("ca.key is no key"), "{}", said.err);
    assert_eq!(run(&["cert", "--out", out, "--days", "0"]).code, 2);
    for name in ["ca", "../x"] {
        let said = run(&["cert", "--out", out, name]);
        assert!(said.code == 1 && said.err.contains("cannot be"), "{}", said.err);
    }
}
