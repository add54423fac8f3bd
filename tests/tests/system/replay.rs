//! An access log of the mesh's gateway, replayed.

use std::process::Output;

use futures::TryStreamExt;
use serde_json::Value;
use weft_testkit::eventually_ok;

use crate::process::{LIMIT, Mesh};

async fn replay(mesh: &Mesh, log: &str, more: &[&str]) -> Result<String, String> {
    let command = [&["gateway", "replay", log, "--pool", "database"], more].concat();
    let Output { status, stdout, stderr } = mesh.command(&command).output().await.unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    if status.success() { Ok(said) } else { Err(said) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_logged_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = path.to_str().unwrap();
    let mesh = Mesh::start(&format!("[gateway]\naccess_log = \"{log}\"\n")).await;
    let client = mesh.client().await;
    for _ in 0..30 {
        client.chats().list().try_next().await.unwrap();
    }
    let compared = eventually_ok(LIMIT, || async {
        let compared: Value = serde_json::from_str(&replay(&mesh, log, &["--json"]).await?).unwrap();
        if compared["calls"].as_u64().unwrap() >= 30 { Ok(compared) } else { Err(compared.to_string()) }
    })
    .await;
    assert_eq!(compared["backends"].as_array().unwrap().len(), 1, "{compared}");
    for outcome in compared["outcomes"].as_array().unwrap() {
        assert_eq!((&outcome["shares"][0], &outcome["refused"]), (&1.0.into(), &0.into()), "{outcome}");
    }
    let said = replay(&mesh, log, &["--balance", "peak_ewma"]).await.unwrap();
    assert!(
        said.contains("recorded") && said.contains("peak_ewma") && !said.contains("round_robin"),
        "{said}"
    );
    let refused = replay(&mesh, "nowhere.log", &[]).await.unwrap_err();
    assert!(refused.starts_with("error: open nowhere.log"), "{refused}");
}
