//! The status of a small mesh, as a person and as a program reads it.

use std::time::Duration;

use weft_client::{GatewayStats, Replica, ServiceStats};
use weft_proto::{
    cache::v1 as cache,
    database::v1 as database,
    gateway::v1::{Backend, Health},
    queue::v1 as queue,
};

use super::{model::Status, text::render};
use crate::terminal::Paint;

fn backend(address: &str, calls: u64, health: Health) -> Backend {
    Backend { address: address.into(), weight: 1, health: health.into(), calls, ..Default::default() }
}

fn replica(pool: &str, backend: Backend, stats: Result<ServiceStats, String>) -> Replica {
    Replica { pool: pool.into(), backend, stats, elapsed: Duration::from_millis(2) }
}

fn a_cache(pid: u32, hits: u64, misses: u64) -> ServiceStats {
    let pattern = |pattern: &str, hits, misses| cache::PatternStats {
        pattern: pattern.into(),
        hits,
        misses,
        stores: misses,
        ..Default::default()
    };
    ServiceStats::Cache(cache::GetStatsResponse {
        backend: "redis".into(),
        patterns: vec![pattern("chat", hits, misses), pattern("user", 0, 0)],
        store_reachable: true,
        pid,
        ..Default::default()
    })
}

fn a_queue(ready: u64, succeeded: u64) -> ServiceStats {
    let one = queue::QueueStats {
        queue: "chat_queue".into(),
        ready,
        dead: 1,
        succeeded,
        oldest_ready_age: Some(prost_types::Duration { seconds: 75, nanos: 0 }),
        ..Default::default()
    };
    ServiceStats::Queue(queue::GetStatsResponse { queues: vec![one], worker: true, ..Default::default() })
}

fn mesh() -> Status {
    let gateway =
        GatewayStats { uptime: Duration::from_secs(192), calls: 1204, in_flight: 1, client_connections: 2 };
    let pool = database::PoolStats { open: 3, idle: 2, max: 50, ..Default::default() };
    let stats = database::GetStatsResponse {
        backend: "sqlite".into(),
        pool: Some(pool),
        queries: 12_304,
        reachable: true,
        ..Default::default()
    };
    Status::new(
        &gateway,
        vec![
            replica("cache", backend("127.0.0.1:7101", 900, Health::Healthy), Ok(a_cache(4242, 90, 10))),
            replica("cache", backend("127.0.0.1:7111", 300, Health::Healthy), Ok(a_cache(77, 10, 90))),
            replica(
                "database",
                backend("127.0.0.1:7102", 4, Health::Healthy),
                Ok(ServiceStats::Database(stats)),
            ),
            replica("queue", backend("127.0.0.1:7103", 0, Health::Healthy), Ok(a_queue(5, 7))),
            replica("queue", backend("127.0.0.1:7113", 0, Health::Unhealthy), Ok(a_queue(4, 8))),
            replica(
                "assets",
                backend("127.0.0.1:7104", 0, Health::Unhealthy),
                Err("connection refused".into()),
            ),
        ],
    )
}

#[test]
fn a_person_sees_replicas_sums_and_what_each_service_says() {
    let expected = "\
gateway up 3m 12s · 1,204 calls · 1 in flight · 2 client connections

service   address         process  health     weight  in flight  calls  failures
assets    127.0.0.1:7104        -  unhealthy       1          0      0         0
cache     127.0.0.1:7101     4242  healthy         1          0    900         0
          127.0.0.1:7111       77  healthy         1          0    300         0
          sum of 2                 2 healthy                  0  1,200         0
database  127.0.0.1:7102        -  healthy         1          0      4         0
queue     127.0.0.1:7103        -  healthy         1          0      0         0
          127.0.0.1:7113        -  unhealthy       1          0      0         0
          sum of 2                 1 healthy                  0      0         0
! 127.0.0.1:7104: connection refused

cache
  address         backend  store      hit rate  values  bytes  store errors
  127.0.0.1:7101  redis    reachable    90.0 %       0    0 B             0
  127.0.0.1:7111  redis    reachable    10.0 %       0    0 B             0
  sum of 2        redis    reachable    50.0 %       0    0 B             0

  pattern  hit rate  hits  misses  waits  stores  refused  dropped
  chat       50.0 %   100     100      0     100        0        0

database
  address         backend  store      pool  idle  waiting  timeouts  outbox  queries  cached
  127.0.0.1:7102  sqlite   reachable  3/50     2        0         0       0   12,304       -

queue
  address         jobs  broker  connection   workers  working  unpublished
  127.0.0.1:7103                unreachable        1        0            0
  127.0.0.1:7113                unreachable        1        0            0
  sum of 2                      unreachable        2        0            0

  queue       ready  oldest  scheduled  running  dead  succeeded  failed attempts
  chat_queue      5  1m 15s          0        0     1         15                0
";
    assert_eq!(render(&mesh(), Paint::BARE), expected);
}

#[test]
fn a_program_reads_stable_keys() {
    let json = serde_json::to_value(mesh()).unwrap();
    assert_eq!(json["gateway"]["uptime_seconds"], 192.0);
    let services: Vec<_> =
        json["services"].as_array().unwrap().iter().map(|service| &service["pool"]).collect();
    assert_eq!(services, ["assets", "cache", "database", "queue"]);
    let cache = &json["services"][1];
    assert_eq!(cache["replicas"][0]["health"], "healthy");
    assert_eq!((&cache["replicas"][0]["pid"], &cache["replicas"][1]["pid"]), (&4242.into(), &77.into()));
    assert!(json["services"][0]["replicas"][0]["pid"].is_null());
    assert_eq!(cache["replicas"][0]["stats"]["patterns"][0]["hit_rate"], 0.9);
    assert_eq!(cache["sum"]["calls"], 1200);
    assert_eq!(cache["sum"]["stats"]["hit_rate"], 0.5);
    assert_eq!(json["services"][0]["replicas"][0]["error"], "connection refused");
    assert!(json["services"][0]["replicas"][0]["stats"].is_null());
    let depth = &json["services"][3]["sum"]["stats"]["queues"][0];
    assert_eq!((&depth["ready"], &depth["succeeded"]), (&5.into(), &15.into()));
}
