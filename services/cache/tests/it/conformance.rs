//! The store's contract, a test for each number, on every implementation and again through gRPC. (14 to 17 need a
//! backend that can be away: they are in `outage.rs`.)

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;
use weft_cache::store::{Item, Lease, Lookup, Store};
use weft_testkit::eventually;

use crate::fixture::{self, Fixture, SOON, item, key};

macro_rules! suite {
    ($($test:ident)*) => {
        suite!(@on memory $($test)*);
        suite!(@on grpc_memory $($test)*);
        #[cfg(feature = "real-backends")]
        suite!(@on redis $($test)*);
        #[cfg(feature = "real-backends")]
        suite!(@on grpc_redis $($test)*);
    };
    (@on $store:ident $($test:ident)*) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(super::fixture::$store().await).await;
                }
            )*
        }
    };
}

suite! {
    c01_a_lookup_of_nothing_gives_a_lease_like_no_other
    c02_while_a_lease_stands_every_other_lookup_is_held_off
    c03_a_lookup_answers_the_bytes_as_stored
    c04_a_fill_under_a_standing_lease_stores_and_ends_it
    c05_a_fill_under_any_other_lease_stores_nothing
    c06_a_set_stores_whatever_is_there_and_ends_leases
    c07_a_removal_drops_values_and_leases_and_counts_values
    c08_a_removal_is_one_step
    c09_a_lease_ends_by_itself
    c10_a_value_ends_with_its_time_to_live
    c11_get_many_answers_in_order_and_leases_nothing
    c12_of_concurrent_lookups_one_is_given_the_lease
    c13_a_value_of_the_limit_is_kept
}

async fn leased(store: &impl Store, name: &str) -> Lease {
    match store.lookup(&key(name)).await.unwrap() {
        Lookup::Leased(lease) => lease,
        other => panic!("{name}: {other:?}"),
    }
}

async fn lookup(store: &impl Store, name: &str) -> Lookup {
    store.lookup(&key(name)).await.unwrap()
}

fn hit(value: &'static str) -> Lookup {
    Lookup::Hit(Bytes::from_static(value.as_bytes()))
}

async fn c01_a_lookup_of_nothing_gives_a_lease_like_no_other<S: Store, G>(store: Fixture<S, G>) {
    let mut leases = HashSet::new();
    for n in 0..100 {
        assert!(leases.insert(leased(&*store, &format!("user:{n}")).await.0));
    }
}

async fn c02_while_a_lease_stands_every_other_lookup_is_held_off<S: Store, G>(store: Fixture<S, G>) {
    leased(&*store, "chat:1").await;
    for _ in 0..3 {
        assert_eq!(lookup(&*store, "chat:1").await, Lookup::Held);
    }
    leased(&*store, "chat:2").await;
}

async fn c03_a_lookup_answers_the_bytes_as_stored<S: Store, G>(store: Fixture<S, G>) {
    for value in ["", "\0", "\u{1}", "text", "\0lease-like-12345"] {
        store.set(&[item("model:m", value)]).await.unwrap();
        assert_eq!(lookup(&*store, "model:m").await, hit(value));
    }
}

async fn c04_a_fill_under_a_standing_lease_stores_and_ends_it<S: Store, G>(store: Fixture<S, G>) {
    let lease = leased(&*store, "user:1").await;
    assert!(store.fill(&item("user:1", "loaded"), lease).await.unwrap());
    assert_eq!(lookup(&*store, "user:1").await, hit("loaded"));
    assert!(!store.fill(&item("user:1", "again"), lease).await.unwrap());
    assert_eq!(lookup(&*store, "user:1").await, hit("loaded"));
}

async fn c05_a_fill_under_any_other_lease_stores_nothing<S: Store, G>(store: Fixture<S, G>) {
    assert!(!store.fill(&item("user:never-read", "x"), Lease::unique()).await.unwrap());
    assert_eq!(store.get_many(&[key("user:never-read")]).await.unwrap(), [None]);

    let lease = leased(&*store, "user:1").await;
    let elsewhere = leased(&*store, "user:2").await;
    for wrong in [elsewhere, Lease::unique(), Lease([0; Lease::BYTES])] {
        assert!(!store.fill(&item("user:1", "stale"), wrong).await.unwrap());
    }
    assert_eq!(lookup(&*store, "user:1").await, Lookup::Held, "the right lease still stands");
    assert!(store.fill(&item("user:1", "fresh"), lease).await.unwrap());
}

async fn c06_a_set_stores_whatever_is_there_and_ends_leases<S: Store, G>(store: Fixture<S, G>) {
    let late = leased(&*store, "chat:1").await;
    store.set(&[item("chat:1", "set"), item("chat:2", "first"), item("chat:2", "last")]).await.unwrap();
    assert!(!store.fill(&item("chat:1", "stale"), late).await.unwrap());
    assert_eq!(lookup(&*store, "chat:1").await, hit("set"));
    assert_eq!(lookup(&*store, "chat:2").await, hit("last"));
    store.set(&[item("chat:1", "newer")]).await.unwrap();
    assert_eq!(lookup(&*store, "chat:1").await, hit("newer"));
}

async fn c07_a_removal_drops_values_and_leases_and_counts_values<S: Store, G>(store: Fixture<S, G>) {
    store.set(&[item("chat:1", "a"), item("chat_list:u", "")]).await.unwrap();
    let late = leased(&*store, "chat:leased").await;
    let keys = ["chat:1", "chat_list:u", "chat:leased", "chat:absent", "chat:1"].map(key);
    assert_eq!(store.remove(&keys).await.unwrap(), 2);
    assert!(!store.fill(&item("chat:leased", "stale"), late).await.unwrap(), "loaded before the removal");
    for name in ["chat:1", "chat_list:u", "chat:leased"] {
        leased(&*store, name).await;
    }
    assert_eq!(store.remove(&keys).await.unwrap(), 0);
}

async fn c08_a_removal_is_one_step<S: Store, G>(store: Fixture<S, G>) {
    let names: Vec<_> = (0..64).map(|n| format!("document:{n}")).collect();
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let items: Vec<_> = names.iter().map(|name| item(name, "value")).collect();
    for _ in 0..30 {
        store.set(&items).await.unwrap();
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            let (store, keys) = (store.share(), keys.clone());
            readers.spawn(async move {
                loop {
                    let seen =
                        store.get_many(&keys).await.unwrap().iter().filter(|value| value.is_some()).count();
                    assert!(seen == 0 || seen == 64, "saw {seen} of 64");
                    if seen == 0 {
                        break;
                    }
                }
            });
        }
        assert_eq!(store.remove(&keys).await.unwrap(), 64);
        readers.join_all().await;
    }
}

async fn c09_a_lease_ends_by_itself<S: Store, G>(store: Fixture<S, G>) {
    let first = leased(&*store, "user:1").await;
    assert_eq!(lookup(&*store, "user:1").await, Lookup::Held);
    let next = std::sync::Mutex::new(None);
    eventually(SOON, || async {
        match lookup(&*store, "user:1").await {
            Lookup::Leased(lease) => next.lock().unwrap().replace(lease).is_none(),
            _ => false,
        }
    })
    .await;
    let next = next.into_inner().unwrap().unwrap();
    assert!(!store.fill(&item("user:1", "late"), first).await.unwrap());
    assert!(store.fill(&item("user:1", "loaded"), next).await.unwrap());
}

async fn c10_a_value_ends_with_its_time_to_live<S: Store, G>(store: Fixture<S, G>) {
    let short = |name| Item { ttl: Duration::from_secs(1), ..item(name, "short") };
    store.set(&[short("user:set"), item("user:long", "long")]).await.unwrap();
    let lease = leased(&*store, "user:filled").await;
    assert!(store.fill(&short("user:filled"), lease).await.unwrap());
    let keys = ["user:set", "user:filled"].map(key);
    eventually(SOON, || async { store.get_many(&keys).await.unwrap() == [None, None] }).await;
    leased(&*store, "user:set").await;
    leased(&*store, "user:filled").await;
    assert_eq!(store.remove(&keys).await.unwrap(), 0);
    assert_eq!(lookup(&*store, "user:long").await, hit("long"));
}

async fn c11_get_many_answers_in_order_and_leases_nothing<S: Store, G>(store: Fixture<S, G>) {
    store.set(&[item("user:1", "one"), item("user:2", "two")]).await.unwrap();
    leased(&*store, "user:leased").await;
    let keys = ["user:2", "user:absent", "user:1", "user:leased", "user:2"].map(key);
    let values = store.get_many(&keys).await.unwrap();
    let texts: Vec<_> =
        values.iter().map(|value| value.as_deref().map(|bytes| str::from_utf8(bytes).unwrap())).collect();
    assert_eq!(texts, [Some("two"), None, Some("one"), None, Some("two")]);
    leased(&*store, "user:absent").await;
}

async fn c12_of_concurrent_lookups_one_is_given_the_lease<S: Store, G>(store: Fixture<S, G>) {
    for round in 0..10 {
        let mut lookups = JoinSet::new();
        for _ in 0..64 {
            let (store, key) = (store.share(), key(&format!("chat:{round}")));
            lookups.spawn(async move { store.lookup(&key).await.unwrap() });
        }
        let answers = lookups.join_all().await;
        let leases = answers.iter().filter(|answer| matches!(answer, Lookup::Leased(_))).count();
        let held = answers.iter().filter(|answer| **answer == Lookup::Held).count();
        assert_eq!((leases, held), (1, 63), "round {round}");
    }
}

async fn c13_a_value_of_the_limit_is_kept<S: Store, G>(store: Fixture<S, G>) {
    let name = format!("document:{}", "k".repeat(256));
    let value = Bytes::from(vec![0xA5; fixture::config().max_value_bytes]);
    let lease = leased(&*store, &name).await;
    assert!(store.fill(&item(&name, value.clone()), lease).await.unwrap());
    assert_eq!(lookup(&*store, &name).await, Lookup::Hit(value.clone()));
    assert_eq!(store.get_many(&[key(&name)]).await.unwrap(), [Some(value)]);
}
