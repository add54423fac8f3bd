//! Calls of two kinds, those that may be executed twice and those that may not, and what came of each.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use weft_testkit::eventually;

use crate::{
    LIMIT,
    contract::{Empty, SimpleRequest, test_service_client::TestServiceClient},
};

/// A call's deadline.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(1);
/// So many calls of each kind must have come to their end before callers have moved on.
const SOME: u64 = 500;

/// Callers of both kinds, until they are told to stop.
pub(crate) struct Callers {
    counts: Arc<Mutex<Report>>,
    stopping: Arc<AtomicBool>,
    tasks: TaskTracker,
}

/// What came of both kinds of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Those that may be executed twice.
    pub(crate) repeatable: Outcomes,
    /// The others.
    pub(crate) once: Outcomes,
}

/// What came of one kind of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    calls: u64,
    slowest: Duration,
    /// How often which codes came, and with what message the last time.
    pub(crate) failures: BTreeMap<i32, (usize, String)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Repeatable,
    Once,
}

impl Callers {
    pub(crate) fn start(gateway: SocketAddr, of_each_kind: usize) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{gateway}")).unwrap();
        let client = TestServiceClient::new(endpoint.connect_lazy());
        let callers = Self { counts: Arc::default(), stopping: Arc::default(), tasks: TaskTracker::new() };
        for kind in [Kind::Repeatable, Kind::Once].into_iter().cycle().take(2 * of_each_kind) {
            let (counts, stopping) = (Arc::clone(&callers.counts), Arc::clone(&callers.stopping));
            callers.tasks.spawn(call(client.clone(), kind, counts, stopping));
        }
        callers
    }

    /// Returns when some more calls of each kind have come to their end.
    pub(crate) async fn move_on(&self) {
        let ended = || {
            let counts = self.counts.lock().unwrap();
            (counts.repeatable.calls, counts.once.calls)
        };
        let before = ended();
        let moved = || ended().0 >= before.0 + SOME && ended().1 >= before.1 + SOME;
        eventually(LIMIT, || async { moved() }).await;
    }

    /// Returns what came of all calls when the last one has ended.
    pub(crate) async fn stop(&self) -> Report {
        self.stopping.store(true, Ordering::Relaxed);
        self.tasks.close();
        self.tasks.wait().await;
        self.counts.lock().unwrap().clone()
    }
}

async fn call(
    mut client: TestServiceClient<Channel>,
    kind: Kind,
    counts: Arc<Mutex<Report>>,
    stopping: Arc<AtomicBool>,
) {
    while !stopping.load(Ordering::Relaxed) {
        let began = Instant::now();
        let outcome = match kind {
            Kind::Repeatable => client.empty_call(in_time(Empty {})).await.map(drop),
            Kind::Once => client.unary_call(in_time(SimpleRequest::default())).await.map(drop),
        };
        counts.lock().unwrap().of(kind).ended(began.elapsed(), outcome.err());
        sleep(PAUSE).await;
    }
}

/// With a deadline that this side keeps too, as clients do: it is the first to give up.
fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

impl Report {
    const fn of(&mut self, kind: Kind) -> &mut Outcomes {
        match kind {
            Kind::Repeatable => &mut self.repeatable,
            Kind::Once => &mut self.once,
        }
    }
}

impl Outcomes {
    fn ended(&mut self, took: Duration, failure: Option<Status>) {
        self.calls += 1;
        self.slowest = self.slowest.max(took);
        if let Some(status) = failure {
            let failures = self.failures.entry(status.code().into()).or_default();
            *failures = (failures.0 + 1, status.message().to_owned());
        }
    }

    /// Asserts that there were no more failures than so many, and of no other kind.
    #[track_caller]
    pub(crate) fn failed_only_with(&self, codes: &[Code], most: usize) {
        assert!(self.failures.keys().all(|code| codes.contains(&Code::from_i32(*code))), "{self}");
        assert!(self.failed() <= most, "{self}");
    }

    fn failed(&self) -> usize {
        self.failures.values().map(|(times, _)| times).sum()
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (slowest {:.0?}), {} failed", self.calls, self.slowest, self.failed())?;
        self.failures.iter().try_for_each(|(code, (times, message))| {
            write!(f, ", {times} x {:?} ({message})", Code::from_i32(*code))
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repeatable calls {}; others {}", self.repeatable, self.once)
    }
}
