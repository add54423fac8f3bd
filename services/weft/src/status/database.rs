//! What databases say of themselves.

use serde::Serialize;
use weft_proto::database::v1 as pb;

use super::{
    cache::reachable,
    model::{rate, seconds},
};
use crate::{
    table::{Align, Cell, Columns},
    units,
};

/// One database service, or all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct DatabaseStats {
    backend: String,
    /// Whether every replica reaches it.
    reachable: bool,
    pool: Pool,
    /// Replicas on one database see the same outbox.
    outbox_depth: u64,
    outbox_oldest_age_seconds: f64,
    queries: u64,
    cache_hits: u64,
    cache_misses: u64,
    cache_hit_rate: Option<f64>,
}

/// Its connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Pool {
    open: u32,
    idle: u32,
    max: u32,
    waiting: u32,
    timeouts: u64,
}

impl From<pb::GetStatsResponse> for DatabaseStats {
    fn from(stats: pb::GetStatsResponse) -> Self {
        let pool = stats.pool.unwrap_or_default();
        Self {
            backend: stats.backend,
            reachable: stats.reachable,
            pool: Pool {
                open: pool.open,
                idle: pool.idle,
                max: pool.max,
                waiting: pool.waiting,
                timeouts: pool.timeouts,
            },
            outbox_depth: stats.outbox_depth,
            outbox_oldest_age_seconds: seconds(stats.outbox_oldest_age),
            queries: stats.queries,
            cache_hits: stats.cache_hits,
            cache_misses: stats.cache_misses,
            cache_hit_rate: rate(stats.cache_hits, stats.cache_hits + stats.cache_misses),
        }
    }
}

impl DatabaseStats {
    pub(super) fn join(&mut self, other: &Self) {
        self.reachable &= other.reachable;
        self.pool.open += other.pool.open;
        self.pool.idle += other.pool.idle;
        self.pool.max += other.pool.max;
        self.pool.waiting += other.pool.waiting;
        self.pool.timeouts += other.pool.timeouts;
        self.outbox_depth = self.outbox_depth.max(other.outbox_depth);
        self.outbox_oldest_age_seconds = self.outbox_oldest_age_seconds.max(other.outbox_oldest_age_seconds);
        self.queries += other.queries;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
        self.cache_hit_rate = rate(self.cache_hits, self.cache_hits + self.cache_misses);
    }

    pub(super) const COLUMNS: &Columns = &[
        ("backend", Align::Left),
        ("store", Align::Left),
        ("pool", Align::Right),
        ("idle", Align::Right),
        ("waiting", Align::Right),
        ("timeouts", Align::Right),
        ("outbox", Align::Right),
        ("queries", Align::Right),
        ("cached", Align::Right),
    ];

    pub(super) fn cells(&self) -> Vec<Cell> {
        let outbox = if self.outbox_depth == 0 {
            "0".to_owned()
        } else {
            let age =
                std::time::Duration::try_from_secs_f64(self.outbox_oldest_age_seconds).unwrap_or_default();
            format!("{} ({})", units::count(self.outbox_depth), units::elapsed(age))
        };
        vec![
            self.backend.clone().into(),
            reachable(self.reachable),
            format!("{}/{}", self.pool.open, self.pool.max).into(),
            self.pool.idle.to_string().into(),
            self.pool.waiting.to_string().into(),
            units::count(self.pool.timeouts).into(),
            outbox.into(),
            units::count(self.queries).into(),
            units::share(self.cache_hits, self.cache_hits + self.cache_misses).into(),
        ]
    }
}
