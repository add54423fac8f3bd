//! What the conformance suite cannot see from outside: memory, sweeping, and threads without a runtime.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use super::*;

const KIB: u64 = 1024;

fn store(max_bytes: u64, max_value_bytes: u64) -> MemoryStore {
    MemoryStore::new(MemoryLimits { max_bytes, max_value_bytes, lease: Duration::from_secs(10) })
}

fn item(key: &str, value: impl Into<Bytes>) -> Item {
    Item { key: Key::parse(key).unwrap(), value: value.into(), ttl: Duration::from_secs(3600) }
}

fn now(future: impl Future<Output = Result<(), StoreError>>) {
    futures::executor::block_on(future).unwrap();
}

#[test]
fn memory_stays_within_its_limit() {
    let store = store(1024 * KIB, 16 * KIB);
    for n in 0..10_000 {
        now(store.set(&[item(&format!("chat:{n}"), vec![0; 1024])]));
    }
    let usage = store.usage();
    assert!(usage.bytes <= 1024 * KIB, "{usage:?}");
    assert!(usage.bytes > 700 * KIB, "the room is used: {usage:?}");
    assert_eq!(usage.bytes, usage.entries * 1024);
}

#[test]
fn abandoned_leases_stay_within_the_limit_too() {
    let store = store(256 * KIB, KIB);
    for n in 0..100_000 {
        let key = Key::parse(&format!("user:{n}")).unwrap();
        assert!(matches!(store.lookup_at(&key, Instant::now()), Lookup::Leased(_)));
    }
    assert!(store.slots.len() as u64 <= 256 * KIB / OVERHEAD_BYTES, "{}", store.slots.len());
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_value_of_the_limit_is_kept_whatever_the_number_of_shards() {
    for max_bytes in [16, 64, 100, 1024, 4096].map(|mib| mib * 1024 * KIB) {
        let store = store(max_bytes, 1024 * KIB);
        now(store.set(&[item("document:big", vec![7; 1024 * 1024])]));
        assert_eq!(store.usage().entries, 1, "with {max_bytes} bytes in {} shards", store.slots.num_shards());
    }
}

#[test]
fn a_stored_value_does_not_pin_its_request() {
    let store = store(1024 * KIB, KIB);
    let request = Bytes::from(vec![1; 512 * 1024]);
    now(store.set(&[item("user:1", request.slice(..8))]));
    assert!(request.is_unique());
}

#[test]
fn sweeping_frees_what_expired_and_nothing_else() {
    let store = store(1024 * KIB, KIB);
    let short = Item { ttl: Duration::from_secs(5), ..item("user:short", "xx") };
    now(store.set(&[short, item("user:long", "y")]));
    let start = Instant::now();
    store.lookup_at(&Key::parse("user:leased").unwrap(), start);

    store.sweep(start + Duration::from_secs(6));
    assert_eq!(store.usage(), Usage { entries: 1, bytes: 1 });
    assert_eq!(store.slots.len(), 2, "the lease stands for 10 s");
    store.sweep(start + Duration::from_secs(11));
    assert_eq!(store.slots.len(), 1);
}

/// A row that writers raise and invalidate, and readers load through the cache: no reader may see a version older
/// than one whose invalidation was finished before it asked.
#[test]
fn threads_never_see_a_value_older_than_a_finished_invalidation() {
    let store = store(1024 * KIB, KIB);
    let key = Key::parse("chat:contended").unwrap();
    let (row, invalidated) = (AtomicU64::new(0), AtomicU64::new(0));
    let (hits, fills) = (AtomicU64::new(0), AtomicU64::new(0));
    let read = || {
        let oldest_allowed = invalidated.load(SeqCst);
        match store.lookup_at(&key, Instant::now()) {
            Lookup::Hit(value) => {
                let version = u64::from_be_bytes(value[..].try_into().unwrap());
                assert!(version >= oldest_allowed, "saw {version} after {oldest_allowed} was invalidated");
                hits.fetch_add(1, SeqCst);
                thread::yield_now();
            }
            Lookup::Leased(lease) => {
                let loaded = row.load(SeqCst);
                (0..fastrand::u8(..8)).for_each(|_| thread::yield_now());
                let item = item("chat:contended", loaded.to_be_bytes().to_vec());
                fills.fetch_add(u64::from(store.fill_at(&item, lease, Instant::now())), SeqCst);
            }
            Lookup::Held => thread::yield_now(),
        }
    };
    let write = || {
        let version = row.fetch_add(1, SeqCst) + 1;
        now(async { store.remove(std::slice::from_ref(&key)).await.map(drop) });
        invalidated.fetch_max(version, SeqCst);
    };
    // Until enough of everything has happened, however the threads are scheduled.
    let deadline = Instant::now() + Duration::from_secs(60);
    let enough = || {
        let counts = [&hits, &fills, &row].map(|count| count.load(SeqCst));
        let done = counts[0] > 10_000 && counts[1] > 200 && counts[2] > 200;
        assert!(done || Instant::now() < deadline, "hits, fills and changes: {counts:?}");
        done
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !enough() {
                        (0..100).for_each(|_| read());
                    }
                })
            })
            .collect();
        while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
            write();
            (0..fastrand::u8(..8)).for_each(|_| thread::yield_now());
        }
    });
}

#[test]
fn of_many_threads_one_is_given_the_lease() {
    let store = Arc::new(store(1024 * KIB, KIB));
    for round in 0..200 {
        let key = Key::parse(&format!("chat:{round}")).unwrap();
        let start = Barrier::new(8);
        let leases: usize = thread::scope(|scope| {
            let look = || {
                start.wait();
                usize::from(matches!(store.lookup_at(&key, Instant::now()), Lookup::Leased(_)))
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(look)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(leases, 1, "round {round}");
    }
}
