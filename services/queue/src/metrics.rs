//! Every instrument of the queue service. The Prometheus exporter adds `_total` and the unit to the names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};

use crate::{job::Queue, jobs::Depth};

/// Counters of one queue, for GetStats.
#[derive(Debug, Default)]
pub struct Counts {
    /// Jobs ended well.
    pub succeeded: AtomicU64,
    /// Attempts failed.
    pub failed_attempts: AtomicU64,
    /// Jobs running now.
    pub working: AtomicU64,
}

/// The instruments. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    counts: Arc<[Counts; Queue::ALL.len()]>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
    process_duration: Histogram<f64>,
    published: Counter<u64>,
    attempts: Counter<u64>,
    lease_expirations: Counter<u64>,
    working: Gauge<u64>,
    depth: Gauge<u64>,
    oldest_ready_age: Gauge<f64>,
    unpublished: Gauge<u64>,
    watchers: Gauge<u64>,
    extractions: Histogram<f64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Succeeded,
    /// With an error; another attempt follows.
    Retried,
    /// With an error; none follows.
    Dead,
    /// As asked by its owner.
    Cancelled,
    /// Given back by a stopping worker.
    Released,
    /// The lease was lost; somebody else has the job.
    Lost,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Retried => "retried",
            Outcome::Dead => "dead",
            Outcome::Cancelled => "cancelled",
            Outcome::Released => "released",
            Outcome::Lost => "lost",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let meter = global::meter("weft-queue");
        let counter = |name, description| meter.u64_counter(name).with_description(description).build();
        let gauge = |name, description| meter.u64_gauge(name).with_description(description).build();
        let seconds = |name, description| {
            meter.f64_histogram(name).with_unit("s").with_description(description).build()
        };
        Metrics {
            counts: Arc::default(),
            sent: counter("messaging.client.sent.messages", "Jobs stored by Publish"),
            consumed: counter("messaging.client.consumed.messages", "Jobs claimed by workers"),
            process_duration: seconds("messaging.process.duration", "How long attempts take"),
            published: counter(
                "weft_queue_deliveries_published",
                "Deliveries handed to the broker, by whether it confirmed them",
            ),
            attempts: counter("weft_queue_attempts", "Attempts ended, by outcome"),
            lease_expirations: counter(
                "weft_queue_lease_expirations",
                "Leases that ended without a sign of life",
            ),
            working: gauge("weft_queue_working_jobs", "Jobs that workers of this replica run now"),
            depth: gauge("weft_queue_depth", "Jobs by queue and state, as the job store has them"),
            oldest_ready_age: meter
                .f64_gauge("weft_queue_oldest_ready_age_seconds")
                .with_description("How long the oldest ready job of a queue has been due")
                .build(),
            unpublished: gauge("weft_queue_unpublished_jobs", "Ready jobs that the broker has not confirmed"),
            watchers: gauge("weft_queue_watched_jobs", "Jobs that are watched through this replica"),
            extractions: seconds("weft_queue_extraction_duration", "How long extractors take"),
        }
    }
}

impl Metrics {
    /// The counters of a queue.
    #[must_use]
    pub fn counts(&self, queue: Queue) -> &Counts {
        &self.counts[queue as usize]
    }

    /// A job was stored.
    pub fn sent(&self, queue: Queue) {
        self.sent.add(1, &[destination(queue)]);
    }

    /// A delivery was handed to the broker.
    pub fn published(&self, queue: Queue, confirmed: bool) {
        self.published.add(1, &[destination(queue), KeyValue::new("confirmed", confirmed)]);
    }

    /// A worker begins an attempt.
    pub fn begin(&self, queue: Queue) {
        self.consumed.add(1, &[destination(queue)]);
        let working = self.counts(queue).working.fetch_add(1, Ordering::Relaxed) + 1;
        self.working.record(working, &[destination(queue)]);
    }

    /// A worker has ended an attempt.
    pub fn end(&self, queue: Queue, outcome: Outcome, took: Duration) {
        let counts = self.counts(queue);
        let working = counts.working.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.working.record(working, &[destination(queue)]);
        match outcome {
            Outcome::Succeeded => counts.succeeded.fetch_add(1, Ordering::Relaxed),
            Outcome::Retried | Outcome::Dead => counts.failed_attempts.fetch_add(1, Ordering::Relaxed),
            Outcome::Cancelled | Outcome::Released | Outcome::Lost => 0,
        };
        let labels = [destination(queue), KeyValue::new("outcome", outcome.name())];
        self.attempts.add(1, &labels);
        self.process_duration.record(took.as_secs_f64(), &labels);
    }

    /// A lease ended without a sign of life.
    pub fn lease_expired(&self) {
        self.lease_expirations.add(1, &[]);
    }

    /// The depths of all queues.
    pub fn depths(&self, depths: &[Depth], now: crate::clock::Millis) {
        for depth in depths {
            let states = [
                ("ready", depth.ready),
                ("scheduled", depth.scheduled),
                ("running", depth.running),
                ("dead", depth.dead),
            ];
            for (state, count) in states {
                self.depth.record(count, &[destination(depth.queue), KeyValue::new("state", state)]);
            }
            let age = depth.oldest_due.map_or(Duration::ZERO, |due| crate::clock::duration(now - due));
            self.oldest_ready_age.record(age.as_secs_f64(), &[destination(depth.queue)]);
            self.unpublished.record(depth.unpublished, &[destination(depth.queue)]);
        }
    }

    /// How many jobs are watched.
    pub fn watched(&self, jobs: usize) {
        self.watchers.record(jobs as u64, &[]);
    }

    /// An extractor has answered.
    pub fn extracted(&self, took: Duration, refused: bool) {
        self.extractions.record(took.as_secs_f64(), &[KeyValue::new("refused", refused)]);
    }
}

fn destination(queue: Queue) -> KeyValue {
    KeyValue::new("messaging.destination.name", queue.name())
}
