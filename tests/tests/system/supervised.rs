//! `weft up --replicas` on real backends: the replicas share the load, any of them may be killed and comes back, and none
//! outlives its parent.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use tokio::process::Command;
use weft_client::{Admin, ServiceStats};
use weft_proto::gateway::v1::Health;
use weft_testkit::{Servers, eventually, eventually_ok};

use crate::process::{LIMIT, Mesh, WEFT, alive, kill};

/// A replica, as far as this test cares.
#[derive(Clone, Debug)]
struct Seen {
    pid: Option<u32>,
    healthy: bool,
    calls: u64,
    /// Reads that a cache was asked for.
    reads: u64,
}

/// The replicas of a pool by address.
async fn seen(admin: &Admin, pool: &str) -> BTreeMap<String, Seen> {
    let (_, replicas) = admin.stats().await.unwrap();
    let replicas = replicas.into_iter().filter(|replica| replica.pool == pool);
    let seen = replicas.map(|replica| {
        let (pid, reads) = match replica.stats {
            Ok(ServiceStats::Database(stats)) => (Some(stats.pid), 0),
            Ok(ServiceStats::Cache(stats)) => {
                (Some(stats.pid), stats.patterns.iter().map(|pattern| pattern.hits + pattern.misses).sum())
            }
            _ => (None, 0),
        };
        let healthy = replica.backend.health() == Health::Healthy;
        let seen = Seen { pid, healthy, calls: replica.backend.calls, reads };
        (replica.backend.address, seen)
    });
    seen.collect()
}

async fn pids(admin: &Admin, pool: &str) -> BTreeSet<u32> {
    seen(admin, pool).await.values().filter_map(|replica| replica.pid).collect()
}

/// Three of each, all healthy, none of them one of the killed.
async fn complete(admin: &Admin, killed: &[u32]) -> bool {
    let (databases, caches) = (seen(admin, "database").await, seen(admin, "cache").await);
    let well = |replica: &Seen| replica.healthy && replica.pid.is_some_and(|pid| !killed.contains(&pid));
    databases.len() == 3 && caches.len() == 3 && databases.values().chain(caches.values()).all(well)
}

async fn status(mesh: &Mesh) -> String {
    let admin = format!("http://{}", mesh.admin);
    let output = Command::new(WEFT).args(["--admin", &admin, "status", "--json"]).output().await.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_load_come_back_and_end_with_their_parent() {
    let servers = Servers::start().await.unwrap();
    let replicas = ["--replicas", "database=3", "--replicas", "cache=3"];
    let mut mesh = Mesh::start_with(&servers.config(), &replicas).await;
    let client = mesh.client().await;
    let address = format!("http://{}", mesh.admin);
    let admin = eventually_ok(LIMIT, || Admin::connect(&address, "ada")).await;
    eventually(LIMIT, || complete(&admin, &[])).await;
    let chat = client.chats().create("spread", "", "one").await.unwrap();

    let before = seen(&admin, "database").await;
    let read = |_| async { client.chats().get(&chat.id).await };
    let answers: Vec<_> = stream::iter(0..600).map(read).buffer_unordered(24).collect().await;
    assert!(answers.iter().all(Result::is_ok));
    for (address, after) in seen(&admin, "database").await {
        let share = after.calls - before[&address].calls;
        assert!((100..=300).contains(&share), "{address} took {share} of 600");
    }
    let caches = seen(&admin, "cache").await;
    assert!(caches.values().all(|cache| cache.reads > 0), "the databases call every cache: {caches:?}");

    let processes: Vec<u32> =
        pids(&admin, "database").await.union(&pids(&admin, "cache").await).copied().collect();
    assert_eq!(processes.len(), 6, "each is a process of its own");
    let status = status(&mesh).await;
    assert!(processes.iter().all(|pid| status.contains(&format!("\"pid\": {pid}"))), "{status}");

    let victims =
        [*pids(&admin, "database").await.first().unwrap(), *pids(&admin, "cache").await.first().unwrap()];
    let mut answers = stream::iter(0..900).map(read).buffer_unordered(24).enumerate();
    while let Some((done, answer)) = answers.next().await {
        answer.expect("a read may be retried, so it does not fail");
        match done {
            300 => kill(victims[0]).await,
            600 => kill(victims[1]).await,
            _ => {}
        }
    }
    eventually(LIMIT, || complete(&admin, &victims)).await;
    let addresses = |seen: &BTreeMap<String, Seen>| seen.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        addresses(&seen(&admin, "database").await),
        addresses(&before),
        "they come back where they were"
    );

    let processes: Vec<u32> =
        pids(&admin, "database").await.union(&pids(&admin, "cache").await).copied().collect();
    assert!(processes.len() == 6 && processes.iter().all(|&pid| alive(pid)), "{processes:?}");
    mesh.kill().await;
    eventually(LIMIT, || async { !processes.iter().any(|&pid| alive(pid)) }).await;
}
