//! What holds for one call, and what became of it: between those who forward and the upstream that sends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use weft_balance::{
    Backend, Class, retry,
    verdict::{Timeout, Verdict},
};

use crate::methods::Method;

/// What holds for one call.
#[derive(Debug)]
pub struct Terms {
    /// Until when it may take, its waits and repetitions included.
    pub deadline: retry::Deadline,
    /// Whether it may be sent again after it may have been executed.
    pub idempotent: bool,
    /// Whether to wait for what follows the headers before the response is passed on. A server that fails after its
    /// headers says so only there, and a call can be sent again only while nothing was passed on. Not for streams: their
    /// headers are an answer in themselves.
    pub peek: bool,
    /// Whether it is gRPC, whose status stands in headers or trailers.
    pub grpc: bool,
    /// What a pool that keeps equal calls together tells them apart by.
    pub key: Option<u64>,
    /// Who waits first when there is no room.
    pub class: Class,
    /// Ends the call when neither side sends anything for too long.
    pub idle: Option<Activity>,
    /// What is known of its method.
    pub method: Method,
    /// Whether each attempt is a span of its own, below the current one.
    pub trace_attempts: bool,
    /// When a response that has begun ends here, so that it is begun anew and balanced again.
    pub stream_ends: Option<Instant>,
}

impl Terms {
    /// When to look whether the call is over its time; `None` for a call that may take any.
    #[must_use]
    pub fn next_limit(&self) -> Option<Instant> {
        let idle = self.idle.as_ref().map(Activity::idle_at);
        [self.deadline.at(), idle, self.stream_ends].into_iter().flatten().min()
    }

    /// Whether the call is over its time: when to look again, or what has run out.
    ///
    /// # Errors
    /// The limit that has run out.
    pub fn over(&self, now: Instant) -> Result<Option<Instant>, Timeout> {
        if self.deadline.at().is_some_and(|deadline| deadline <= now) {
            return Err(Timeout::Deadline { whose: self.deadline.whose(), sent: true });
        }
        if self.stream_ends.is_some_and(|end| end <= now) {
            return Err(Timeout::StreamAge);
        }
        match self.next_limit() {
            Some(limit) if limit <= now => Err(Timeout::StreamIdle),
            limit => Ok(limit),
        }
    }
}

#[cfg(test)]
impl Terms {
    /// Of a test's unary call of gRPC that may take so long.
    pub(crate) fn within(time: Option<Duration>) -> Self {
        Self {
            deadline: retry::Deadline::new(time, retry::Limits::default(), Instant::now()),
            idempotent: false,
            peek: false,
            grpc: true,
            key: None,
            class: Class::Interactive,
            idle: None,
            method: Method::unknown(false),
            trace_attempts: false,
            stream_ends: None,
        }
    }
}

/// When something last moved on a stream, in either direction. Clones are the same.
#[derive(Clone, Debug)]
pub struct Activity {
    began: Instant,
    limit: Duration,
    /// Nanoseconds after `began`.
    last: Arc<AtomicU64>,
}

impl Activity {
    /// Begins now.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { began: Instant::now(), limit, last: Arc::new(AtomicU64::new(0)) }
    }

    /// Something moved.
    pub fn touch(&self) {
        let since = self.began.elapsed().as_nanos();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it will have been idle for too long, unless something moves.
    #[must_use]
    pub fn idle_at(&self) -> Instant {
        self.began + Duration::from_nanos(self.last.load(Ordering::Relaxed)) + self.limit
    }
}

/// What became of a call, as far as it has come.
#[derive(Debug, Default)]
pub struct Course {
    /// How often it was sent, or would have been if a connection had come about.
    pub attempts: u32,
    /// How long it waited for a backend with room.
    pub queued: Duration,
    /// The last backend it was sent to.
    pub backend: Option<Arc<Backend>>,
    /// The verdict on the last attempt that ended without a response to pass on.
    pub verdict: Option<Verdict>,
    /// Why it was not sent again.
    pub stopped: Option<retry::Why>,
}
