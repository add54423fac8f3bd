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
fn picks_are_explained_to_people_and_programs() {
    let mesh = Mesh::start();
    // Of the gateway's own: the status goes to every replica and picks none.
    let asked = mesh.run(&["ask", "What is there?"]);
    assert_eq!(asked.code, 0, "{}", asked.err);
    let said = mesh.run(&["gateway", "explain", "database", "--json", "--limit", "1"]);
    let picks: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    assert_eq!((picks.len(), &picks[0]["reason"]), (1, &"only one".into()));
    let candidate = &picks[0]["candidates"][0];
    assert_eq!(candidate["address"], picks[0]["chosen"]);
    let [score, foreign] = ["score", "foreign"].map(|key| candidate[key].as_f64().unwrap());
    assert!((score - foreign - 1.0).abs() < 1e-3, "(in flight + foreign + 1) / weight: {candidate}");
    let said = mesh.run(&["gateway", "explain", "database"]);
    assert!(said.out.contains("chosen: only one"), "{}", said.out);
    let said = mesh.run(&["gateway", "explain", "cash"]);
    assert!(said.code != 0 && said.err.contains("cash"), "{}", said.err);
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
