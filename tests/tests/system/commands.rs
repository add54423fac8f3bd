//! The commands against `weft up --config` on Redis, PostgreSQL, RabbitMQ and S3, each as a process of its own.

use std::{fs, process::Output};

use serde_json::Value;
use weft_testkit::Servers;

use crate::process::Mesh;

/// Runs a command to its end: stdout, and stderr after it.
async fn run(mesh: &Mesh, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        mesh.command(arguments).current_dir(mesh.folder.path()).output().await.unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert!(status.success(), "{arguments:?}: {text}");
    text
}

async fn status(mesh: &Mesh) -> Value {
    serde_json::from_str(&run(mesh, &["status", "--json"]).await).unwrap()
}

/// What a service says of itself.
fn stats<'a>(status: &'a Value, pool: &str) -> &'a Value {
    let services = status["services"].as_array().unwrap();
    let service = services.iter().find(|service| service["pool"] == pool).unwrap();
    assert_eq!(service["replicas"][0]["health"], "healthy", "{service}");
    &service["sum"]["stats"]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_work_on_real_backends() {
    let servers = Servers::start().await.unwrap();
    let mesh = Mesh::start(&servers.config()).await;
    mesh.client().await;
    let folder = mesh.folder.path().join("documents");
    fs::create_dir(&folder).unwrap();
    fs::write(
        folder.join("ferry.md"),
        "# Ferry\n\nThe ferry leaves the northern pier at twenty past seven.\n",
    )
    .unwrap();
    fs::write(folder.join("bread.txt"), "Knead the dough for ten minutes.\n").unwrap();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/site.css");
    fs::copy(sample, mesh.folder.path().join("site.css")).unwrap();

    let said = run(&mesh, &["ingest", "documents"]).await;
    assert!(said.starts_with("2 ready, 0 unchanged, 0 failed"), "{said}");
    let said = run(&mesh, &["ingest", "documents"]).await;
    assert!(said.starts_with("0 ready, 2 unchanged, 0 failed"), "{said}");
    let said = run(&mesh, &["ask", "When does the ferry leave the pier?"]).await;
    assert!(said.contains("twenty past seven") && said.contains("ferry.md passage 1"), "{said}");
    let said = run(&mesh, &["asset", "put", "--public", "site.css"]).await;
    assert!(said.starts_with("site.css  ") && said.contains(" br (-"), "{said}");
    assert!(said.contains(&format!("url http://{}/assets/", mesh.gateway)), "{said}");

    let status = status(&mesh).await;
    assert_eq!(stats(&status, "cache")["backend"], "redis");
    assert_eq!(stats(&status, "database")["backend"], "postgres");
    assert_eq!(stats(&status, "assets")["backend"], "s3");
    let queue = stats(&status, "queue");
    assert_eq!([&queue["jobs_backend"], &queue["broker_backend"]], ["postgres", "rabbitmq"]);
}
