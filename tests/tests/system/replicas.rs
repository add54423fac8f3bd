//! Three databases and three caches on real backends behind one gateway: the load is shared, who is slow gets less of
//! it, one of each may be killed, and the status shows them all.

mod fleet;

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream};
use serde_json::Value;
use weft_testkit::eventually;

use crate::{process::LIMIT, services::Replica};
use fleet::Fleet;

const READS: u64 = 600;

/// Reads a chat over and over, 24 at a time, and kills a replica in between if one is given. No read may fail.
async fn read(fleet: &Fleet, mut victim: Option<&mut Replica>) {
    let read = |_| async { fleet.gateway.client.chats().get(&fleet.chat).await };
    let mut answers = stream::iter(0..READS).map(read).buffer_unordered(24).enumerate();
    while let Some((done, answer)) = answers.next().await {
        answer.expect("a read may be retried, so it does not fail");
        if done == 200
            && let Some(victim) = victim.take()
        {
            victim.child.kill().await.unwrap();
        }
    }
}

/// What each took since `before`.
fn since(after: &HashMap<String, u64>, before: &HashMap<String, u64>) -> HashMap<String, u64> {
    after.iter().map(|(address, calls)| (address.clone(), calls - before[address])).collect()
}

/// Each takes its third of the reads, within half of it.
async fn assert_spread(fleet: &Fleet) {
    let (databases, caches) = (fleet.database_calls().await, fleet.cache_reads().await);
    read(fleet, None).await;
    for shares in
        [since(&fleet.database_calls().await, &databases), since(&fleet.cache_reads().await, &caches)]
    {
        assert_eq!(shares.len(), 3);
        assert!(shares.values().all(|share| (100..=300).contains(share)), "of {READS}: {shares:?}");
    }
}

/// `weft status` has a row for each replica, and a sum of them.
async fn assert_status(fleet: &Fleet) {
    let (_, replicas) = fleet.gateway.admin.stats().await.unwrap();
    let rows = |pool: &str| replicas.iter().filter(|r| r.pool == pool && r.stats.is_ok()).count();
    assert_eq!((rows("cache"), rows("database"), replicas.len()), (3, 3, 6));

    let status = fleet.status().await;
    let hits = |row: &Value| {
        let patterns = row["stats"]["patterns"].as_array().unwrap();
        patterns.iter().map(|pattern| pattern["hits"].as_u64().unwrap()).sum()
    };
    assert_sums(&status, "cache", hits);
    assert_sums(&status, "database", |row| row["calls"].as_u64().unwrap());
    assert_sums(&status, "database", |row| row["stats"]["pool"]["max"].as_u64().unwrap());
}

fn assert_sums(status: &Value, pool: &str, count: impl Fn(&Value) -> u64) {
    let services = status["services"].as_array().unwrap();
    let service = services.iter().find(|service| service["pool"] == pool).unwrap();
    let rows: Vec<_> = service["replicas"].as_array().unwrap().iter().map(&count).collect();
    assert!(rows.len() == 3 && !rows.contains(&0), "{rows:?} in {service}");
    assert_eq!(count(&service["sum"]), rows.iter().sum::<u64>(), "{service}");
    assert_eq!(service["sum"]["replicas"], 3);
}

/// A replica that answers late has more calls in flight than the others, so it is given fewer.
async fn assert_slow_gets_less(fleet: &Fleet) {
    let before = fleet.database_calls().await;
    fleet.slow.delay(Duration::from_millis(300)).await;
    read(fleet, None).await;
    fleet.slow.heal().await.unwrap();
    let mut shares = since(&fleet.database_calls().await, &before);
    let slow = shares.remove(&fleet.slow.address().to_string()).unwrap();
    assert!(
        shares.values().all(|share| *share > 3 * slow),
        "the slow one took {slow}, the others {shares:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_spread_and_a_killed_replica_fails_none_that_may_be_retried() {
    let mut fleet = Fleet::start().await;
    eventually(LIMIT, || fleet.gateway.is_healthy()).await;
    assert_spread(&fleet).await;
    assert_status(&fleet).await;
    assert_slow_gets_less(&fleet).await;

    let mut database = fleet.databases.remove(0);
    read(&fleet, Some(&mut database)).await;
    let mut cache = fleet.caches.remove(0);
    read(&fleet, Some(&mut cache)).await;
    let before = fleet.cache_reads().await;
    assert_eq!(before.len(), 2, "the killed cache says nothing any more");
    read(&fleet, None).await;
    let shares = since(&fleet.cache_reads().await, &before);
    assert!(shares.values().all(|share| *share > 100), "the caches that are left: {shares:?}");
}
