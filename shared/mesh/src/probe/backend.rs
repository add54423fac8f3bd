//! The checks of one backend: ask, tell the backend's state machine, wait for the time or a reason to ask again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use weft_balance::{Backend, Health};

use super::{
    Check,
    schedule::{FAST, FIRST, Schedule},
    session::{Session, Verdict},
};
use crate::pool::Pool;

/// What runs for one backend of a pool.
pub(super) struct Checks {
    pool: Arc<Pool>,
    backend: Arc<Backend>,
    session: Session,
    schedule: Schedule,
    /// Whether it was unhealthy when this last looked: if not, somebody else has taken it out since.
    down: bool,
}

impl Checks {
    pub(super) fn new(pool: Arc<Pool>, backend: Arc<Backend>, tasks: &TaskTracker) -> Self {
        let settings = Arc::clone(&pool.settings());
        let session = Session::new(&pool, backend.address(), tasks);
        let schedule = Schedule::new(settings.interval);
        Self { pool, backend, session, schedule, down: false }
    }

    /// Checks until it is dropped.
    pub(super) async fn run(mut self, delay: Duration) {
        sleep(delay).await;
        loop {
            let asked = Instant::now();
            self.ask().await;
            self.rest(asked).await;
        }
    }

    async fn ask(&mut self) {
        let limit = self.pool.settings().timeout;
        let verdict = timeout(limit, self.session.ask()).await;
        let late = |_| Verdict::Failed(format!("no answer to the health check within {limit:?}"));
        self.record(verdict.unwrap_or_else(late));
    }

    /// Waits until the next check is due, taking what the backend says meanwhile.
    async fn rest(&mut self, asked: Instant) {
        let mut due = asked + self.pause();
        loop {
            // Made before the look, it misses nothing that is disturbed after it.
            let pool = Arc::clone(&self.pool);
            let disturbed = pool.disturbed.notified();
            if self.is_suspect() {
                due = due.min(self.soon(asked));
            }
            tokio::select! {
                () = sleep_until(due) => return,
                () = disturbed => {}
                verdict = self.session.listen() => {
                    self.record(verdict);
                    due = Instant::now() + self.pause();
                }
            }
        }
    }

    /// Whether a connection of somebody's failed or ended. Only a new connection can disprove that.
    fn is_suspect(&mut self) -> bool {
        let down = self.backend.health() == Health::Unhealthy;
        let taken_out = down && !std::mem::replace(&mut self.down, down);
        let suspect = self.backend.take_suspicion() || taken_out;
        if suspect {
            self.session.close();
        }
        suspect
    }

    /// At once, unless the last check was just now. A pool that checks nothing waits a little: it has no other reason
    /// to trust the backend again.
    fn soon(&self, asked: Instant) -> Instant {
        match self.pool.settings().check {
            Check::None => Instant::now() + self.pool.settings().interval.min(FAST),
            _ => asked + self.pool.settings().interval.min(FIRST),
        }
    }

    fn pause(&self) -> Duration {
        self.schedule.pause(self.backend.health() == Health::Healthy, fastrand::f64())
    }

    fn record(&mut self, verdict: Verdict) {
        let now = std::time::Instant::now();
        match &verdict {
            Verdict::Failed(_) => self.schedule.failed(now),
            _ => self.schedule.passed(now),
        }
        // One that says so itself is being stopped, or waits for something that it reports.
        let told = matches!(verdict, Verdict::NotServing(_));
        let change = match verdict {
            Verdict::Alive => None,
            Verdict::Passed => self.backend.checked(Ok(()), now),
            Verdict::Serving => self.backend.assume_healthy(now),
            Verdict::NotServing(reason) => self.backend.mark_down(&reason, now),
            Verdict::Failed(reason) => {
                self.session.close();
                self.backend.checked(Err(reason), now)
            }
        };
        self.down = self.backend.health() == Health::Unhealthy;
        if let Some(health) = change {
            self.report(health, told);
        }
    }

    fn report(&self, health: Health, told: bool) {
        let (pool, backend) = (self.pool.name(), self.backend.address());
        if health == Health::Healthy {
            tracing::info!(pool, backend, "backend is healthy");
        } else {
            let reason = self.backend.last_error();
            if told {
                tracing::info!(pool, backend, reason, "backend is not serving");
            } else {
                tracing::warn!(pool, backend, reason, "backend is unhealthy");
            }
            // Discovery looks whether there is another one instead.
            self.pool.changed();
        }
    }
}
