//! Bytes up, down and over HTTP.

use std::{fs, path::PathBuf};

use crate::{http::get, program::Mesh};

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
    let answer = get(url, &[]);
    assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=31536000, immutable"));

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

fn sample(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/samples")).join(name)
}

/// What follows a word of a command's output on its line.
fn after<'a>(out: &'a str, word: &str) -> &'a str {
    out.lines().find_map(|line| line.trim().strip_prefix(word)).unwrap().trim()
}

#[test]
fn assets_are_delivered_through_the_gateway_as_browsers_ask_for_them() {
    let mesh = Mesh::start();
    for (name, media, encoding) in [
        ("site.css", "text/css", "br"),
        ("todo.js", "text/javascript", "br"),
        ("portrait.jpg", "image/jpeg", ""),
    ] {
        let file = sample(name);
        let said = mesh.run(&["asset", "put", "--public", file.to_str().unwrap()]);
        let url = after(&said.out, "url");
        let plain = get(url, &[]);
        assert_eq!((plain.status, plain.header("content-encoding")), (200, ""), "{name}");
        assert!(plain.header("content-type").starts_with(media), "{name}: {}", plain.header("content-type"));
        let original = fs::metadata(&file).unwrap().len() as usize;
        assert!((1..original).contains(&plain.body.len()), "{name} is not optimized");

        let packed = get(url, &[("accept-encoding", "gzip, br")]);
        assert_eq!((packed.status, packed.header("content-encoding")), (200, encoding), "{name}");
        let smaller = packed.body.len() < plain.body.len();
        assert_eq!(smaller, !encoding.is_empty(), "{name}: {} of {}", packed.body.len(), plain.body.len());

        for whole in [&plain, &packed] {
            let etag = whole.header("etag");
            assert!(etag.starts_with('"') && etag.ends_with('"'), "{name}: {etag} is not strong");
            let asked = [("accept-encoding", "gzip, br"), ("if-none-match", etag)];
            let asked = if std::ptr::eq(whole, &plain) { &asked[1..] } else { &asked };
            let known = get(url, asked);
            assert_eq!((known.status, known.header("etag"), known.body.len()), (304, etag, 0), "{name}");
        }

        let part = get(url, &[("range", "bytes=10-109")]);
        assert_eq!((part.status, &part.body[..]), (206, &plain.body[10..110]), "{name}");
        assert_eq!(part.header("content-range"), format!("bytes 10-109/{}", plain.body.len()));
        assert_eq!(get(url, &[("range", "bytes=9999999-")]).status, 416, "{name}");
    }
}

#[test]
fn a_private_asset_has_no_url_that_gives_it() {
    let mesh = Mesh::start();
    let file = sample("site.css");
    let said = mesh.run(&["asset", "put", file.to_str().unwrap()]);
    let id = after(&said.out, "id").to_owned();
    let urls =
        [format!("{}/assets/{id}/site.css", mesh.gateway), format!("{}/files/local/site.css", mesh.gateway)];
    for url in &urls {
        assert_eq!(get(url, &[]).status, 404, "{url}");
    }
    // The same URLs give it as soon as it is public: they were the right ones to try.
    assert_eq!(mesh.run(&["asset", "put", "--public", file.to_str().unwrap()]).code, 0);
    for url in &urls {
        assert_eq!(get(url, &[]).status, 200, "{url}");
    }
}
