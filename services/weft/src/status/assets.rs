//! What asset stores say of themselves.

use serde::Serialize;
use weft_proto::assets::v1 as pb;

use super::model::seconds;
use crate::{
    table::{Align, Cell, Columns, Table},
    units,
};

/// One asset service, or all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct AssetsStats {
    backend: String,
    puts: u64,
    put_bytes: u64,
    http_requests: u64,
    http_not_modified: u64,
    http_bytes: u64,
    memory_hits: u64,
    optimizing: u64,
    oldest_wait_seconds: f64,
    store_errors: u64,
    optimizers: Vec<Optimizer>,
}

/// How one optimizer has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Optimizer {
    kind: String,
    runs: u64,
    kept: u64,
    input_bytes: u64,
    output_bytes: u64,
}

impl From<pb::GetStatsResponse> for AssetsStats {
    fn from(stats: pb::GetStatsResponse) -> Self {
        let optimizer = |stats: pb::OptimizerStats| Optimizer {
            kind: stats.kind,
            runs: stats.runs,
            kept: stats.kept,
            input_bytes: stats.input_bytes,
            output_bytes: stats.output_bytes,
        };
        Self {
            backend: stats.backend,
            puts: stats.puts,
            put_bytes: stats.put_bytes,
            http_requests: stats.http_requests,
            http_not_modified: stats.http_not_modified,
            http_bytes: stats.http_bytes,
            memory_hits: stats.memory_hits,
            optimizing: stats.optimizing,
            oldest_wait_seconds: seconds(stats.oldest_wait),
            store_errors: stats.store_errors,
            optimizers: stats.optimizers.into_iter().map(optimizer).collect(),
        }
    }
}

impl AssetsStats {
    pub(super) fn join(&mut self, other: &Self) {
        self.puts += other.puts;
        self.put_bytes += other.put_bytes;
        self.http_requests += other.http_requests;
        self.http_not_modified += other.http_not_modified;
        self.http_bytes += other.http_bytes;
        self.memory_hits += other.memory_hits;
        self.optimizing += other.optimizing;
        self.oldest_wait_seconds = self.oldest_wait_seconds.max(other.oldest_wait_seconds);
        self.store_errors += other.store_errors;
        for theirs in &other.optimizers {
            let Some(ours) = self.optimizers.iter_mut().find(|ours| ours.kind == theirs.kind) else {
                self.optimizers.push(theirs.clone());
                continue;
            };
            ours.runs += theirs.runs;
            ours.kept += theirs.kept;
            ours.input_bytes += theirs.input_bytes;
            ours.output_bytes += theirs.output_bytes;
        }
    }

    pub(super) const COLUMNS: &Columns = &[
        ("backend", Align::Left),
        ("uploads", Align::Right),
        ("bytes", Align::Right),
        ("requests", Align::Right),
        ("304", Align::Right),
        ("from memory", Align::Right),
        ("sent", Align::Right),
        ("optimizing", Align::Right),
        ("store errors", Align::Right),
    ];

    pub(super) fn cells(&self) -> Vec<Cell> {
        vec![
            self.backend.clone().into(),
            units::count(self.puts).into(),
            units::bytes(self.put_bytes).into(),
            units::count(self.http_requests).into(),
            units::count(self.http_not_modified).into(),
            units::share(self.memory_hits, self.http_requests).into(),
            units::bytes(self.http_bytes).into(),
            units::count(self.optimizing).into(),
            units::count(self.store_errors).into(),
        ]
    }

    /// The optimizers that have run; `None` when none has.
    pub(super) fn detail(&self) -> Option<Table> {
        let mut table = Table::new(&[
            ("optimizer", Align::Left),
            ("runs", Align::Right),
            ("kept", Align::Right),
            ("in", Align::Right),
            ("out", Align::Right),
            ("change", Align::Right),
        ]);
        let mut any = false;
        for one in self.optimizers.iter().filter(|optimizer| optimizer.runs > 0) {
            any = true;
            table.row(vec![
                one.kind.clone().into(),
                units::count(one.runs).into(),
                units::count(one.kept).into(),
                units::bytes(one.input_bytes).into(),
                units::bytes(one.output_bytes).into(),
                units::change(one.input_bytes, one.output_bytes).into(),
            ]);
        }
        any.then_some(table)
    }
}
