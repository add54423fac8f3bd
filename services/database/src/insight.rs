//! What the queries cost: statistics per registered query, and the slow ones.

mod histogram;

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use histogram::Histogram;
pub use histogram::{BOUNDS_MICROS, Snapshot};

use crate::{
    entities::Micros,
    error::Error,
    metrics::Metrics,
    repository::{Dialect, Query},
};

/// How many slow executions are kept.
pub const SLOW_KEPT: usize = 200;

/// Watches every query of this process.
pub struct Observer {
    dialect: Dialect,
    slow_after: Duration,
    metrics: Metrics,
    counters: Vec<Counters>,
    slow: Mutex<VecDeque<SlowQuery>>,
}

/// Statistics of one query.
#[derive(Clone, Debug)]
pub struct QueryStats {
    /// The query.
    pub query: Query,
    /// Executions.
    pub calls: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Time spent in all.
    pub total: Duration,
    /// The slowest execution.
    pub max: Duration,
    /// How long executions took.
    pub latency: Snapshot,
}

/// One slow execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowQuery {
    /// The query.
    pub query: Query,
    /// When it began.
    pub began: Micros,
    /// How long it took.
    pub elapsed: Duration,
    /// Rows returned or changed.
    pub rows: u64,
    /// The trace it belongs to; empty when not traced.
    pub trace_id: String,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
    rows: AtomicU64,
    total_micros: AtomicU64,
    max_micros: AtomicU64,
    latency: Histogram,
}

impl Observer {
    /// Watches the queries of a database; slower ones than `slow_after` are kept and logged.
    #[must_use]
    pub fn new(dialect: Dialect, slow_after: Duration, metrics: Metrics) -> Self {
        let counters = Query::ALL.iter().map(|_| Counters::default()).collect();
        Self { dialect, slow_after, metrics, counters, slow: Mutex::new(VecDeque::new()) }
    }

    /// Runs a query and notes how it went. `rows` counts a result's rows.
    pub async fn watch<T, F>(&self, query: Query, rows: impl Fn(&T) -> u64, run: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (began, start) = (Micros::now(), Instant::now());
        let result = run.await;
        let count = result.as_ref().map_or(0, rows);
        self.note(query, began, start.elapsed(), count, result.as_ref().err());
        result
    }

    fn note(&self, query: Query, began: Micros, elapsed: Duration, rows: u64, error: Option<&Error>) {
        let counters = &self.counters[query.index()];
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        counters.calls.fetch_add(1, Relaxed);
        counters.errors.fetch_add(u64::from(error.is_some()), Relaxed);
        counters.rows.fetch_add(rows, Relaxed);
        counters.total_micros.fetch_add(micros, Relaxed);
        counters.max_micros.fetch_max(micros, Relaxed);
        counters.latency.record(micros);
        self.metrics.query(self.dialect, query, elapsed, error);
        if elapsed >= self.slow_after {
            self.note_slow(SlowQuery { query, began, elapsed, rows, trace_id: weft_mesh::trace::trace_id() });
        }
    }

    fn note_slow(&self, slow: SlowQuery) {
        let millis = u64::try_from(slow.elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(query = slow.query.name(), elapsed_ms = millis, rows = slow.rows, "slow query");
        let mut kept = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SLOW_KEPT {
            kept.pop_front();
        }
        kept.push_back(slow);
    }

    /// Statistics of every query of this database, the most expensive in total first.
    #[must_use]
    pub fn statistics(&self) -> Vec<QueryStats> {
        let known = Query::ALL.iter().filter(|query| query.sql(self.dialect).is_some());
        let mut all: Vec<_> = known.map(|query| self.counters[query.index()].read(*query)).collect();
        all.sort_by_key(|stats| std::cmp::Reverse(stats.total));
        all
    }

    /// Executions since the start.
    #[must_use]
    pub fn executions(&self) -> u64 {
        self.counters.iter().map(|counters| counters.calls.load(Relaxed)).sum()
    }

    /// The slowest of the kept executions, slowest first.
    #[must_use]
    pub fn slowest(&self, limit: usize) -> Vec<SlowQuery> {
        let mut kept: Vec<_> =
            self.slow.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        kept.sort_by_key(|slow| std::cmp::Reverse(slow.elapsed));
        kept.truncate(limit);
        kept
    }
}

impl Counters {
    fn read(&self, query: Query) -> QueryStats {
        QueryStats {
            query,
            calls: self.calls.load(Relaxed),
            errors: self.errors.load(Relaxed),
            rows: self.rows.load(Relaxed),
            total: Duration::from_micros(self.total_micros.load(Relaxed)),
            max: Duration::from_micros(self.max_micros.load(Relaxed)),
            latency: self.latency.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer() -> Observer {
        Observer::new(Dialect::Sqlite, Duration::from_millis(100), Metrics::new())
    }

    #[test]
    fn statistics_add_up_and_the_most_expensive_comes_first() {
        let observer = observer();
        let error = Error::PoolExhausted;
        observer.note(Query::UserGet, Micros(0), Duration::from_millis(2), 1, None);
        observer.note(Query::ChatGet, Micros(0), Duration::from_millis(3), 1, None);
        observer.note(Query::ChatGet, Micros(0), Duration::from_millis(5), 0, Some(&error));
        let all = observer.statistics();
        let first = &all[0];
        assert_eq!((first.query, first.calls, first.errors, first.rows), (Query::ChatGet, 2, 1, 1));
        assert_eq!((first.total, first.max), (Duration::from_millis(8), Duration::from_millis(5)));
        assert_eq!(all[1].query, Query::UserGet);
        assert_eq!(observer.executions(), 3);
        assert!(all.iter().all(|stats| stats.query != Query::ChunkNearest), "that one is PostgreSQL's");
    }

    #[test]
    fn the_last_slow_ones_are_kept_slowest_first() {
        let observer = observer();
        for n in 0..250 {
            let elapsed = Duration::from_millis(if n < 50 { 10_000 } else { 99 + n });
            observer.note(Query::ChatList, Micros(0), elapsed, 0, None);
        }
        let slowest = observer.slowest(3);
        assert_eq!(slowest[0].elapsed, Duration::from_millis(348));
        assert!(slowest.is_sorted_by_key(|slow| std::cmp::Reverse(slow.elapsed)));
        assert_eq!(observer.slowest(1000).len(), SLOW_KEPT);
    }
}
