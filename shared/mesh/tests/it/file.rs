//! A file of backends that changes, breaks and is mended.

use std::{fs, path::Path};

use tempfile::TempDir;
use weft_balance::Origin;
use weft_mesh::discovery::Sources;
use weft_testkit::{DnsServer, eventually};

use crate::{Fixture, SOON, sources};

/// Writes beside and renames, as an operator should.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn the_list_follows_the_file_and_a_broken_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("backends");
    write(&path, "10.0.0.2:80 weight=2\n10.0.0.3:80\n");
    let fixture =
        Fixture::found(Sources { file: Some(path.clone()), ..sources(&["10.0.0.1:80".to_owned()]) });
    fixture.until_addresses(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]).await;
    let two = fixture.pool.backends.get("10.0.0.2:80").unwrap();
    assert_eq!((two.weight(), two.origin()), (2, Origin::Discovered));

    write(&path, "10.0.0.4:80\n10.0.0.2:80 weight=5\n");
    fixture.until_addresses(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.4:80"]).await;
    assert_eq!(two.weight(), 5);

    write(&path, "10.0.0.5:80\nweight=7\n");
    eventually(SOON, || async {
        fixture.discovery.error().ends_with("line 2: \"weight=7\" is not host:port")
    })
    .await;
    fs::remove_file(&path).unwrap();
    eventually(SOON, || async { fixture.discovery.error().contains("No such file") }).await;
    assert_eq!(fixture.addresses(), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.4:80"]);

    write(&path, "10.0.0.5:80\n");
    fixture.until_addresses(&["10.0.0.1:80", "10.0.0.5:80"]).await;
    assert_eq!(fixture.discovery.error(), "");
}

#[tokio::test]
async fn names_in_the_file_are_looked_up_as_long_as_they_are_there() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_addresses("web.test", &["10.0.0.1".parse().unwrap()], 1);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("backends");
    write(&path, "web.test:80 weight=3\n");
    let nameservers = vec![dns.address()];
    let fixture = Fixture::found(Sources { file: Some(path.clone()), nameservers, ..sources(&[]) });
    eventually(SOON, || async { fixture.list() == [("10.0.0.1:80".to_owned(), 3)] }).await;
    write(&path, "10.0.0.2:80\n");
    fixture.until_addresses(&["10.0.0.2:80"]).await;
    let tasks = fixture.tasks.clone();
    eventually(SOON, || async { tasks.len() == 1 }).await;
}
