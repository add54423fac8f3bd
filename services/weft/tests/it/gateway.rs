//! The gateway's pools, looked at and changed while it runs.

use serde_json::Value;

use crate::program::Mesh;

fn pools(mesh: &Mesh) -> Vec<Value> {
    let said = mesh.run(&["gateway", "pools", "--json"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    serde_json::from_str(&said.out).unwrap()
}

fn cache(mesh: &Mesh) -> Vec<Value> {
    let pools = pools(mesh);
    let cache = pools.iter().find(|pool| pool["pool"] == "cache").unwrap();
    cache["backends"].as_array().unwrap().clone()
}

#[test]
fn pools_are_listed_to_people_and_programs() {
    let mesh = Mesh::start();
    let names: Vec<_> = pools(&mesh).iter().map(|pool| pool["pool"].clone()).collect();
    assert_eq!(names, ["assets", "assets-http", "cache", "database", "queue"]);
    let backend = &cache(&mesh)[0];
    assert_eq!((&backend["weight"], &backend["origin"]), (&1.into(), &"config".into()));
    let said = mesh.run(&["gateway", "pools"]);
    assert!(said.out.starts_with("pool ") && said.out.contains("\ncache "), "{}", said.out);
}

#[test]
fn backends_are_drained_weighted_added_and_removed() {
    let mesh = Mesh::start();
    let own = cache(&mesh)[0]["address"].as_str().unwrap().to_owned();
    let change = |arguments: &[&str]| {
        let said = mesh.run(&[&["gateway"], arguments].concat());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
        said.out
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&change(arguments)).unwrap() };

    assert_eq!(json(&["drain", "cache", &own, "--json"])["draining"], true);
    assert_eq!(cache(&mesh)[0]["draining"], true);
    assert_eq!(json(&["undrain", "cache", &own, "--json"])["draining"], false);
    assert!(change(&["weight", "cache", &own, "7"]).contains(&own), "people see the backend as it stands");
    assert_eq!((&cache(&mesh)[0]["weight"], &cache(&mesh)[0]["origin"]), (&7.into(), &"changed".into()));

    let added = json(&["add", "cache", "127.0.0.1:9", "--weight", "3", "--json"]);
    assert_eq!((&added["origin"], &added["weight"]), (&"added".into(), &3.into()));
    assert_eq!(cache(&mesh).len(), 2);
    assert_eq!(change(&["remove", "cache", "127.0.0.1:9"]), "127.0.0.1:9 is out of cache\n");
    assert_eq!(cache(&mesh).len(), 1);
}

#[test]
fn what_cannot_be_changed_is_told() {
    let mesh = Mesh::start();
    for (arguments, expected) in [
        (&["drain", "cash", "127.0.0.1:9"][..], "cash"),
        (&["weight", "cache", "127.0.0.1:9", "2"], "127.0.0.1:9"),
        (&["add", "cache", "nowhere"], "nowhere"),
    ] {
        let said = mesh.run(&[&["gateway"], arguments].concat());
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{arguments:?}");
        assert!(said.err.starts_with("error: ") && said.err.contains(expected), "{}", said.err);
    }
    let said = mesh.run(&["gateway", "weight", "cache", "127.0.0.1:9", "1001"]);
    assert!(said.code == 2 && said.err.contains("1..=1000"), "{}", said.err);
}
