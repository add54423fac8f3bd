//! What caches say of themselves.

use serde::Serialize;
use weft_proto::cache::v1 as pb;

use super::model::rate;
use crate::{
    table::{Align, Cell, Columns, Table},
    terminal::Tone,
    units,
};

/// One cache, or all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct CacheStats {
    backend: String,
    /// Whether every replica reaches it.
    store_reachable: bool,
    entries: u64,
    entry_bytes: u64,
    store_errors: u64,
    hit_rate: Option<f64>,
    patterns: Vec<Pattern>,
}

/// The counters of one key pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Pattern {
    pattern: String,
    hits: u64,
    misses: u64,
    waits: u64,
    stores: u64,
    refused_fills: u64,
    invalidations: u64,
    hit_rate: Option<f64>,
}

impl Pattern {
    const fn reads(&self) -> u64 {
        self.hits + self.misses + self.waits
    }

    const fn is_idle(&self) -> bool {
        self.reads() + self.stores + self.invalidations == 0
    }
}

impl From<pb::GetStatsResponse> for CacheStats {
    fn from(stats: pb::GetStatsResponse) -> Self {
        let pattern = |stats: pb::PatternStats| Pattern {
            pattern: stats.pattern,
            hits: stats.hits,
            misses: stats.misses,
            waits: stats.waits,
            stores: stats.stores,
            refused_fills: stats.refused_fills,
            invalidations: stats.invalidations,
            hit_rate: None,
        };
        let mut cache = Self {
            backend: stats.backend,
            store_reachable: stats.store_reachable,
            entries: stats.entries,
            entry_bytes: stats.entry_bytes,
            store_errors: stats.store_errors,
            hit_rate: None,
            patterns: stats.patterns.into_iter().map(pattern).collect(),
        };
        cache.rate();
        cache
    }
}

impl CacheStats {
    pub(super) fn join(&mut self, other: &Self) {
        self.store_reachable &= other.store_reachable;
        self.entries += other.entries;
        self.entry_bytes += other.entry_bytes;
        self.store_errors += other.store_errors;
        for theirs in &other.patterns {
            let Some(ours) = self.patterns.iter_mut().find(|ours| ours.pattern == theirs.pattern) else {
                self.patterns.push(theirs.clone());
                continue;
            };
            ours.hits += theirs.hits;
            ours.misses += theirs.misses;
            ours.waits += theirs.waits;
            ours.stores += theirs.stores;
            ours.refused_fills += theirs.refused_fills;
            ours.invalidations += theirs.invalidations;
        }
        self.rate();
    }

    fn rate(&mut self) {
        let (hits, reads) = self.reads();
        self.hit_rate = rate(hits, reads);
        for pattern in &mut self.patterns {
            pattern.hit_rate = rate(pattern.hits, pattern.reads());
        }
    }

    fn reads(&self) -> (u64, u64) {
        self.patterns.iter().fold((0, 0), |(hits, reads), one| (hits + one.hits, reads + one.reads()))
    }

    pub(super) const COLUMNS: &Columns = &[
        ("backend", Align::Left),
        ("store", Align::Left),
        ("hit rate", Align::Right),
        ("values", Align::Right),
        ("bytes", Align::Right),
        ("store errors", Align::Right),
    ];

    pub(super) fn cells(&self) -> Vec<Cell> {
        let (hits, reads) = self.reads();
        vec![
            self.backend.clone().into(),
            reachable(self.store_reachable),
            units::share(hits, reads).into(),
            units::count(self.entries).into(),
            units::bytes(self.entry_bytes).into(),
            units::count(self.store_errors).into(),
        ]
    }

    /// The key patterns that were used; `None` when none was.
    pub(super) fn detail(&self) -> Option<Table> {
        let mut table = Table::new(&[
            ("pattern", Align::Left),
            ("hit rate", Align::Right),
            ("hits", Align::Right),
            ("misses", Align::Right),
            ("waits", Align::Right),
            ("stores", Align::Right),
            ("refused", Align::Right),
            ("dropped", Align::Right),
        ]);
        let mut any = false;
        for one in self.patterns.iter().filter(|pattern| !pattern.is_idle()) {
            any = true;
            let counters =
                [one.hits, one.misses, one.waits, one.stores, one.refused_fills, one.invalidations];
            let mut cells: Vec<Cell> =
                vec![one.pattern.clone().into(), units::share(one.hits, one.reads()).into()];
            cells.extend(counters.map(|counter| units::count(counter).into()));
            table.row(cells);
        }
        any.then_some(table)
    }
}

/// Whether a store answers, as a cell.
pub(super) fn reachable(yes: bool) -> Cell {
    if yes { Cell::toned(Tone::Good, "reachable") } else { Cell::toned(Tone::Bad, "unreachable") }
}
