//! Three databases and three caches on real backends behind one gateway: the load is shared, and one may be killed.

use std::{collections::HashMap, fs, net::SocketAddr, path::Path};

use futures::{StreamExt, stream};
use tokio::process::Child;
use weft_client::{Admin, Client};
use weft_testkit::{Servers, eventually, eventually_ok, free_port};

use crate::process::{LIMIT, serve};

struct Replica {
    child: Child,
    address: SocketAddr,
}

fn replica(name: &str, folder: &Path, index: usize, more: &str) -> Replica {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let config = folder.join(format!("{name}-{index}.toml"));
    let text = format!("address = \"{address}\"\nadmin = {{ address = \"127.0.0.1:0\" }}\n{more}");
    fs::write(&config, text).unwrap();
    Replica { child: serve(name, &config), address }
}

fn pool(name: &str, replicas: &[Replica]) -> String {
    let backends: Vec<_> = replicas.iter().map(|r| format!("{{ address = \"{}\" }}", r.address)).collect();
    format!(
        "[[pools]]\nname = \"{name}\"\nbackends = [{}]\nhealth = {{ interval = \"1s\" }}\n[[routes]]\ngrpc_service = \"weft.{name}.v1.*\"\npool = \"{name}\"\n",
        backends.join(", ")
    )
}

async fn calls(admin: &Admin, pool: &str) -> HashMap<String, u64> {
    let pools = admin.pools().await.unwrap();
    let pool = pools.into_iter().find(|p| p.name == pool).unwrap();
    pool.backends.into_iter().map(|backend| (backend.address, backend.calls)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_spread_and_a_killed_replica_fails_none_that_may_be_retried() {
    let servers = Servers::start().await.unwrap();
    let all: toml::Table = servers.config().parse().unwrap();
    let section = |name: &str| toml::to_string(&all[name]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let caches: Vec<_> = (0..3).map(|i| replica("cache", folder.path(), i, &section("cache"))).collect();
    let addresses: Vec<_> = caches.iter().map(|cache| format!("\"{}\"", cache.address)).collect();
    let peers = format!("cache = {{ addresses = [{}] }}\n", addresses.join(", "));
    let more = peers + &section("database");
    let mut databases: Vec<_> = (0..3).map(|i| replica("database", folder.path(), i, &more)).collect();

    let (gateway, admin) = (free_port().unwrap(), free_port().unwrap());
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "listeners = [{{ address = \"127.0.0.1:{gateway}\" }}]\nadmin = {{ address = \"127.0.0.1:{admin}\" }}\n{}{}",
        pool("cache", &caches),
        pool("database", &databases)
    );
    fs::write(&config, text).unwrap();
    let _gateway = serve("gateway", &config);
    let (gateway, admin) = (format!("http://127.0.0.1:{gateway}"), format!("http://127.0.0.1:{admin}"));
    let client = eventually_ok(LIMIT, || Client::connect(&gateway, "ada")).await;
    let admin = eventually_ok(LIMIT, || Admin::connect(&admin, "ada")).await;
    let chat = eventually_ok(LIMIT, || async { client.chats().create("spread", "", "one").await }).await;
    let all_healthy = || async {
        let pools = admin.pools().await.unwrap();
        pools
            .iter()
            .flat_map(|pool| &pool.backends)
            .all(|backend| backend.health() == weft_proto::gateway::v1::Health::Healthy)
    };
    eventually(LIMIT, all_healthy).await;

    let before = calls(&admin, "database").await;
    let read = |_| async { client.chats().get(&chat.id).await };
    let answers: Vec<_> = stream::iter(0..600).map(read).buffer_unordered(24).collect().await;
    assert!(answers.iter().all(Result::is_ok));
    let after = calls(&admin, "database").await;
    for (address, count) in &after {
        let share = count - before[address];
        assert!((100..=300).contains(&share), "{address} took {share} of 600: {after:?}");
    }

    let mut done = 0;
    let mut answers = stream::iter(0..600).map(read).buffer_unordered(24);
    while let Some(answer) = answers.next().await {
        answer.expect("a read may be retried, so it does not fail");
        done += 1;
        if done == 200 {
            databases[0].child.kill().await.unwrap();
        }
    }
    assert_eq!(done, 600);
}
