//! Computing without starving the rest: as many jobs at a time as there are cores, a bounded queue before them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// When to try again once the queue is full.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A bounded pool for CPU work.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permits: Arc<Semaphore>,
    max_waiting: usize,
    stopping: CancellationToken,
    jobs: Mutex<Jobs>,
}

#[derive(Debug, Default)]
struct Jobs {
    next: u64,
    waiting: BTreeMap<u64, Instant>,
    running: usize,
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Too many wait already.
    #[error("{waiting} jobs wait already")]
    Busy {
        /// How many.
        waiting: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The service is ending.
    #[error("the service is stopping")]
    Stopping,
    /// The job panicked.
    #[error("the job panicked")]
    Panicked,
}

/// What the pool has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Jobs waiting or running.
    pub jobs: usize,
    /// How long the oldest waiting one has waited.
    pub oldest_wait: Duration,
}

impl Pool {
    /// A pool of `workers`, 0 meaning one per core, before which `max_waiting` jobs may wait.
    #[must_use]
    pub fn new(workers: usize, max_waiting: usize, stopping: CancellationToken) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let permits = Arc::new(Semaphore::new(if workers == 0 { cores } else { workers }));
        Self(Arc::new(Inner { permits, max_waiting, stopping, jobs: Mutex::default() }))
    }

    /// Runs `work` on a thread where blocking is fine. A dropped call gives up its place; work that has begun goes on to
    /// its end, and keeps its place so long.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let waiting = self.enqueue()?;
        let permit = tokio::select! {
            permit = self.0.permits.clone().acquire_owned() => permit.map_err(|_| PoolError::Stopping)?,
            () = self.0.stopping.cancelled() => return Err(PoolError::Stopping),
        };
        let running = waiting.start();
        let done = tokio::task::spawn_blocking(move || {
            let _held = (permit, running);
            work()
        });
        done.await.map_err(|e| if e.is_panic() { PoolError::Panicked } else { PoolError::Stopping })
    }

    /// What there is to do now.
    #[must_use]
    pub fn load(&self) -> Load {
        let jobs = self.0.jobs();
        let oldest_wait = jobs.waiting.values().next().map_or(Duration::ZERO, Instant::elapsed);
        Load { jobs: jobs.waiting.len() + jobs.running, oldest_wait }
    }

    fn enqueue(&self) -> Result<Waiting, PoolError> {
        let mut jobs = self.0.jobs();
        let waiting = jobs.waiting.len();
        if waiting >= self.0.max_waiting && self.0.permits.available_permits() == 0 {
            return Err(PoolError::Busy { waiting, retry_after: RETRY_AFTER });
        }
        let id = jobs.next;
        jobs.next += 1;
        jobs.waiting.insert(id, Instant::now());
        Ok(Waiting { inner: self.0.clone(), id })
    }
}

impl Inner {
    fn jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when dropped.
struct Waiting {
    inner: Arc<Inner>,
    id: u64,
}

impl Waiting {
    fn start(self) -> Running {
        self.inner.jobs().running += 1;
        Running { inner: self.inner.clone() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inner.jobs().waiting.remove(&self.id);
    }
}

/// A job being done.
struct Running {
    inner: Arc<Inner>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.jobs().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use weft_testkit::eventually;

    use super::*;

    #[tokio::test]
    async fn one_job_too_many_is_refused_with_a_hint_and_counters_return_to_zero() {
        let pool = Pool::new(1, 1, CancellationToken::new());
        let (release, gate) = mpsc::channel::<()>();
        let first = tokio::task::JoinSet::from_iter([{
            let pool = pool.clone();
            async move { pool.run(move || gate.recv()).await.is_ok() }
        }]);
        eventually(Duration::from_secs(5), || async { pool.load().jobs == 1 && pool.0.jobs().running == 1 })
            .await;
        let waiting = tokio::task::JoinSet::from_iter([{
            let pool = pool.clone();
            async move { pool.run(|| ()).await.is_ok() }
        }]);
        eventually(Duration::from_secs(5), || async { pool.load().jobs == 2 }).await;
        let refused = pool.run(|| ()).await;
        assert!(matches!(refused, Err(PoolError::Busy { waiting: 1, .. })), "{refused:?}");
        release.send(()).unwrap();
        assert_eq!(first.join_all().await, [true]);
        assert_eq!(waiting.join_all().await, [true]);
        assert_eq!(pool.load(), Load { jobs: 0, oldest_wait: Duration::ZERO });
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_its_place() {
        let pool = Pool::new(1, 1, CancellationToken::new());
        let panicked: Result<(), _> = pool.run(|| panic!("a codec's defect")).await;
        assert!(matches!(panicked, Err(PoolError::Panicked)));
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn stopping_ends_those_who_wait() {
        let stopping = CancellationToken::new();
        let pool = Pool::new(1, 8, stopping.clone());
        let (release, gate) = mpsc::channel::<()>();
        let _first = tokio::task::JoinSet::from_iter([{
            let pool = pool.clone();
            async move { pool.run(move || gate.recv()).await.is_ok() }
        }]);
        eventually(Duration::from_secs(5), || async { pool.0.jobs().running == 1 }).await;
        stopping.cancel();
        assert!(matches!(pool.run(|| ()).await, Err(PoolError::Stopping)));
        release.send(()).unwrap();
    }
}
