//! Random histories of several clients against a model of the contract, step by step.

use std::collections::HashMap;

use proptest::prelude::*;
use weft_cache::store::{Lease, Lookup, Store};

use crate::fixture::{self, item, key};

const KEYS: usize = 3;
const CLIENTS: usize = 3;

/// What a client does. A fill carries what its client loaded when it was given its last lease of the key.
#[derive(Clone, Debug)]
enum Step {
    Get { client: usize, key: usize },
    Fill { client: usize, key: usize },
    Set { key: usize },
    Change { keys: Vec<usize> },
    GetMany,
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Lease(Lease),
    Value(u64),
}

/// The rows behind the cache, the cache as the contract says it is, and what the clients remember.
struct World {
    rows: [u64; KEYS],
    held: [Held; KEYS],
    loads: HashMap<(usize, usize), (Lease, u64)>,
    clock: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, row) = (0..CLIENTS, 0..KEYS);
    prop_oneof![
        4 => (client.clone(), row.clone()).prop_map(|(client, key)| Step::Get { client, key }),
        4 => (client, row.clone()).prop_map(|(client, key)| Step::Fill { client, key }),
        1 => row.clone().prop_map(|key| Step::Set { key }),
        2 => proptest::collection::vec(row, 1..=KEYS).prop_map(|keys| Step::Change { keys }),
        1 => Just(Step::GetMany),
    ]
}

fn value(version: u64) -> bytes::Bytes {
    version.to_be_bytes().to_vec().into()
}

impl World {
    fn new() -> Self {
        Self { rows: [0; KEYS], held: [Held::Nothing; KEYS], loads: HashMap::new(), clock: 0 }
    }

    async fn apply(&mut self, store: &impl Store, prefix: &str, step: Step) {
        let name = |key: usize| format!("chat:{prefix}{key}");
        match step {
            Step::Get { client, key: row } => {
                let found = store.lookup(&key(&name(row))).await.unwrap();
                match (self.held[row], found) {
                    (Held::Nothing, Lookup::Leased(lease)) => {
                        self.held[row] = Held::Lease(lease);
                        self.loads.insert((client, row), (lease, self.rows[row]));
                    }
                    (Held::Lease(_), Lookup::Held) => {}
                    (Held::Value(version), Lookup::Hit(bytes)) => {
                        assert_eq!(bytes, value(version));
                        assert_eq!(
                            version, self.rows[row],
                            "every change of the row was followed by a removal"
                        );
                    }
                    (held, found) => panic!("{held:?} was answered with {found:?}"),
                }
            }
            Step::Fill { client, key: row } => {
                let Some(&(lease, loaded)) = self.loads.get(&(client, row)) else { return };
                let stored = store.fill(&item(&name(row), value(loaded)), lease).await.unwrap();
                assert_eq!(stored, self.held[row] == Held::Lease(lease));
                if stored {
                    self.held[row] = Held::Value(loaded);
                }
            }
            Step::Set { key: row } => {
                store.set(&[item(&name(row), value(self.rows[row]))]).await.unwrap();
                self.held[row] = Held::Value(self.rows[row]);
            }
            Step::Change { keys } => {
                self.clock += 1;
                keys.iter().for_each(|&row| self.rows[row] = self.clock);
                let removed: Vec<_> = keys.iter().map(|&row| key(&name(row))).collect();
                let dropped = store.remove(&removed).await.unwrap();
                let holds_value =
                    |row: &usize| matches!(self.held[*row], Held::Value(_)) && keys.contains(row);
                assert_eq!(dropped as usize, (0..KEYS).filter(holds_value).count());
                keys.iter().for_each(|&row| self.held[row] = Held::Nothing);
            }
            Step::GetMany => {
                let keys: Vec<_> = (0..KEYS).map(|row| key(&name(row))).collect();
                let expected = self.held.map(|held| match held {
                    Held::Value(version) => Some(value(version)),
                    _ => None,
                });
                assert_eq!(store.get_many(&keys).await.unwrap(), expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_history_on_the_memory_store_is_the_models(steps in proptest::collection::vec(step(), 1..80)) {
        futures::executor::block_on(async {
            let (store, mut world) = (fixture::memory().await, World::new());
            for step in steps {
                world.apply(&*store, "", step).await;
            }
        });
    }
}

#[cfg(feature = "real-backends")]
#[test]
fn every_history_on_redis_is_the_models() {
    use proptest::test_runner::TestRunner;

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(fixture::redis());
    let case = std::cell::Cell::new(0);
    let histories = proptest::collection::vec(step(), 1..80);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&histories, |steps| {
        case.set(case.get() + 1);
        let prefix = format!("{}-", case.get());
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.apply(&*store, &prefix, step).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}
