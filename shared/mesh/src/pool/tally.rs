//! What is counted of a pool's attempts, with the meaning that Envoy's cluster statistics of the same names have.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_balance::{
    retry::Why,
    verdict::{Cause, Verdict},
};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Tally {
    /// Attempts begun: `upstream_rq_total`.
    pub total: AtomicU64,
    /// Attempts that repeat one that may have been executed, or waited: `upstream_rq_retry`.
    pub retry: AtomicU64,
    /// Repetitions that succeeded: `upstream_rq_retry_success`.
    pub retry_success: AtomicU64,
    /// Repetitions that the budget did not allow: `upstream_rq_retry_overflow`.
    pub retry_overflow: AtomicU64,
    /// Attempts that repeat one that was certainly not executed, at once: `grpc.client.call.transparent_retries`.
    pub transparent_retry: AtomicU64,
    /// Attempts that ended by their call's deadline: `upstream_rq_timeout`.
    pub timeout: AtomicU64,
    /// Attempts whose first byte came too late: `upstream_rq_per_try_timeout`.
    pub per_try_timeout: AtomicU64,
    /// Streams on which nothing moved for too long: `upstream_rq_idle_timeout`.
    pub idle_timeout: AtomicU64,
    /// Streams that went on for too long: `upstream_rq_max_duration_reached`.
    pub max_duration: AtomicU64,
    /// Attempts that the client gave up: `upstream_rq_cancelled`.
    pub cancelled: AtomicU64,
    /// Streams that backends reset: `upstream_rq_rx_reset`.
    pub rx_reset: AtomicU64,
    /// Streams that were reset here: `upstream_rq_tx_reset`.
    pub tx_reset: AtomicU64,
    /// Connections opened: `upstream_cx_total`.
    pub connections: AtomicU64,
    /// Connections that have ended: what is left of them is `upstream_cx_active`.
    pub connections_ended: AtomicU64,
    /// Connections that did not come about: `upstream_cx_connect_fail`.
    pub connect_fail: AtomicU64,
    /// Calls that found no backend: `upstream_cx_none_healthy`.
    pub none_healthy: AtomicU64,
    /// Calls that waited for a backend with room: `upstream_rq_pending_total`.
    pub pending: AtomicU64,
    /// Calls refused because too many waited, or for too long: `upstream_rq_pending_overflow`.
    pub pending_overflow: AtomicU64,
    /// Ejections: `outlier_detection.ejections_enforced_total`.
    pub ejections: AtomicU64,
    /// Ejections that would have left too few: `outlier_detection.ejections_overflow`.
    pub ejections_overflow: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    /// Counts how an attempt ended.
    pub(crate) fn ended(&self, verdict: &Verdict) {
        match verdict.cause {
            Cause::Deadline => count(&self.timeout),
            Cause::FirstByteTimeout => count(&self.per_try_timeout),
            Cause::StreamIdle => count(&self.idle_timeout),
            Cause::StreamAge => count(&self.max_duration),
            Cause::Cancelled => count(&self.cancelled),
            Cause::Reset | Cause::RefusedStream | Cause::EnhanceYourCalm => return count(&self.rx_reset),
            _ => return,
        }
        count(&self.tx_reset);
    }

    /// Connections that are open.
    pub fn open_connections(&self) -> u64 {
        // Read in this order, so that one that ends meanwhile is never counted as ended only.
        let ended = self.connections_ended.load(Ordering::Relaxed);
        self.connections.load(Ordering::Relaxed).saturating_sub(ended)
    }

    /// Counts why a call was not sent again.
    pub(crate) fn stopped(&self, why: Why) {
        if why == Why::Budget {
            count(&self.retry_overflow);
        }
    }

    /// Every count with its name, without the `_total` that exporters add, and what it means.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        [
            ("upstream_rq", "Attempts begun", &self.total),
            ("upstream_rq_retry", "Attempts that repeat one for which there is a budget", &self.retry),
            ("upstream_rq_retry_success", "Repetitions that succeeded", &self.retry_success),
            ("upstream_rq_retry_overflow", "Repetitions that the budget did not allow", &self.retry_overflow),
            ("upstream_rq_transparent_retry", "Attempts after one not executed", &self.transparent_retry),
            ("upstream_rq_timeout", "Attempts that ended by their call's deadline", &self.timeout),
            ("upstream_rq_per_try_timeout", "Attempts whose first byte was late", &self.per_try_timeout),
            ("upstream_rq_idle_timeout", "Streams on which nothing moved", &self.idle_timeout),
            ("upstream_rq_max_duration_reached", "Streams that went on for too long", &self.max_duration),
            ("upstream_rq_cancelled", "Attempts that the client gave up", &self.cancelled),
            ("upstream_rq_rx_reset", "Streams that backends reset", &self.rx_reset),
            ("upstream_rq_tx_reset", "Streams that were reset here", &self.tx_reset),
            ("upstream_rq_pending", "Calls that waited for a backend with room", &self.pending),
            ("upstream_rq_pending_overflow", "Calls refused for want of room", &self.pending_overflow),
            ("upstream_cx", "Connections opened", &self.connections),
            ("upstream_cx_connect_fail", "Connections that did not come about", &self.connect_fail),
            ("upstream_cx_none_healthy", "Calls that found no backend", &self.none_healthy),
            ("outlier_detection_ejections_enforced", "Ejections", &self.ejections),
            ("outlier_detection_ejections_overflow", "Ejections not enforced", &self.ejections_overflow),
        ]
        .into_iter()
        .map(|(name, description, counter)| (name, description, counter.load(Ordering::Relaxed)))
    }
}
