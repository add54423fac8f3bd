//! What queues say of themselves.

use std::time::Duration;

use serde::Serialize;
use weft_proto::queue::v1 as pb;

use super::{cache::reachable, model::seconds};
use crate::{
    table::{Align, Cell, Columns, Table},
    terminal::Tone,
    units,
};

/// One queue service, or all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct QueueStats {
    jobs_backend: String,
    broker_backend: String,
    /// Whether every replica is connected.
    broker_connected: bool,
    /// Replicas that run workers.
    workers: u32,
    unpublished: u64,
    queues: Vec<Queue>,
}

/// One queue. Its depths are the store's, the same to every replica; the rest are counters of replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Queue {
    queue: String,
    ready: u64,
    scheduled: u64,
    running: u64,
    dead: u64,
    oldest_ready_age_seconds: f64,
    working: u64,
    succeeded: u64,
    failed_attempts: u64,
}

impl From<pb::GetStatsResponse> for QueueStats {
    fn from(stats: pb::GetStatsResponse) -> Self {
        let queue = |stats: pb::QueueStats| Queue {
            queue: stats.queue,
            ready: stats.ready,
            scheduled: stats.scheduled,
            running: stats.running,
            dead: stats.dead,
            oldest_ready_age_seconds: seconds(stats.oldest_ready_age),
            working: stats.working,
            succeeded: stats.succeeded,
            failed_attempts: stats.failed_attempts,
        };
        Self {
            jobs_backend: stats.jobs_backend,
            broker_backend: stats.broker_backend,
            broker_connected: stats.broker_connected,
            workers: stats.worker.into(),
            unpublished: stats.unpublished,
            queues: stats.queues.into_iter().map(queue).collect(),
        }
    }
}

impl QueueStats {
    pub(super) fn join(&mut self, other: &Self) {
        self.broker_connected &= other.broker_connected;
        self.workers += other.workers;
        self.unpublished = self.unpublished.max(other.unpublished);
        for theirs in &other.queues {
            let Some(ours) = self.queues.iter_mut().find(|ours| ours.queue == theirs.queue) else {
                self.queues.push(theirs.clone());
                continue;
            };
            // Asked a moment apart, replicas may see different depths of the one queue.
            ours.ready = ours.ready.max(theirs.ready);
            ours.scheduled = ours.scheduled.max(theirs.scheduled);
            ours.running = ours.running.max(theirs.running);
            ours.dead = ours.dead.max(theirs.dead);
            ours.oldest_ready_age_seconds =
                ours.oldest_ready_age_seconds.max(theirs.oldest_ready_age_seconds);
            ours.working += theirs.working;
            ours.succeeded += theirs.succeeded;
            ours.failed_attempts += theirs.failed_attempts;
        }
    }

    pub(super) const COLUMNS: &Columns = &[
        ("jobs", Align::Left),
        ("broker", Align::Left),
        ("connection", Align::Left),
        ("workers", Align::Right),
        ("working", Align::Right),
        ("unpublished", Align::Right),
    ];

    pub(super) fn cells(&self) -> Vec<Cell> {
        let working = self.queues.iter().map(|queue| queue.working).sum();
        vec![
            self.jobs_backend.clone().into(),
            self.broker_backend.clone().into(),
            reachable(self.broker_connected),
            self.workers.to_string().into(),
            units::count(working).into(),
            units::count(self.unpublished).into(),
        ]
    }

    /// The queues.
    pub(super) fn detail(&self) -> Option<Table> {
        let mut table = Table::new(&[
            ("queue", Align::Left),
            ("ready", Align::Right),
            ("oldest", Align::Right),
            ("scheduled", Align::Right),
            ("running", Align::Right),
            ("dead", Align::Right),
            ("succeeded", Align::Right),
            ("failed attempts", Align::Right),
        ]);
        for one in &self.queues {
            let age = Duration::try_from_secs_f64(one.oldest_ready_age_seconds).unwrap_or_default();
            let oldest = if one.ready == 0 { "-".to_owned() } else { units::elapsed(age) };
            let tone = if one.dead == 0 { Tone::Plain } else { Tone::Bad };
            table.row(vec![
                one.queue.clone().into(),
                units::count(one.ready).into(),
                oldest.into(),
                units::count(one.scheduled).into(),
                units::count(one.running).into(),
                Cell::toned(tone, units::count(one.dead)),
                units::count(one.succeeded).into(),
                units::count(one.failed_attempts).into(),
            ]);
        }
        Some(table)
    }
}
