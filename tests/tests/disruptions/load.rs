//! Calls that go on until they are told to stop, and what came of them.

use std::{
    collections::BTreeMap,
    error::Error as _,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::task::TaskTracker;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};
use weft_testkit::eventually;

use crate::{
    LIMIT,
    contract::{
        ResponseParameters, SimpleRequest, StreamingOutputCallRequest, test_service_client::TestServiceClient,
    },
};

/// Callers of each kind on each transport.
const UNARY_CALLERS: usize = 4;
const STREAM_CALLERS: usize = 8;
/// A stream's messages, and the time between them.
const MESSAGES: usize = 20;
const INTERVAL: Duration = Duration::from_millis(50);
/// The size of an answer.
const ANSWER_BYTES: i32 = 100;
/// Between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Counts {
    stopping: AtomicBool,
    /// Calls that tonic's transport gave up and nobody had processed.
    unprocessed: AtomicU64,
    calls: AtomicU64,
    streams: AtomicU64,
    slowest_nanos: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
}

impl Counts {
    fn ended(&self, count: &AtomicU64, who: &str, outcome: Result<(), Status>) {
        count.fetch_add(1, Ordering::Relaxed);
        if let Err(status) = outcome {
            let what = format!("{who}: {:?}: {}", status.code(), status.message());
            *self.failures.lock().unwrap().entry(what).or_default() += 1;
        }
    }
}

pub(crate) struct Load {
    counts: Arc<Counts>,
    callers: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    calls: u64,
    streams: u64,
    unprocessed: u64,
    slowest: Duration,
    pub(crate) failures: BTreeMap<String, u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} unary calls (slowest {:.0?}), {} streams", self.calls, self.slowest, self.streams)?;
        write!(f, " of {MESSAGES} messages, {} failed", self.failures.values().sum::<u64>())?;
        write!(f, "; tonic gave up {} that nobody had processed", self.unprocessed)?;
        self.failures.iter().try_for_each(|(what, times)| write!(f, "\n  {times} x {what}"))
    }
}

/// Whether a call was certainly not processed: taken by tonic's transport and not sent before the connection ended, or
/// sent after a first GOAWAY (which h2 does not heed) and above the last id of the second. Other clients of gRPC send
/// such a call again by themselves (gRFC A6), Weft's channel too.
fn is_unprocessed(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let unsent = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let above_last_id = error.downcast_ref::<h2::Error>().is_some_and(|error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
        });
        if unsent || above_last_id {
            return true;
        }
        cause = error.source();
    }
    false
}

/// One stub on either transport.
#[derive(Clone)]
enum Client {
    Tonic(TestServiceClient<Channel>),
    Weft(TestServiceClient<weft_mesh::Channel>),
}

impl Client {
    const fn name(&self) -> &'static str {
        match self {
            Self::Tonic(_) => "tonic",
            Self::Weft(_) => "weft",
        }
    }

    async fn unary(&mut self) -> Result<(), Status> {
        let request = patient(SimpleRequest { response_size: ANSWER_BYTES, ..SimpleRequest::default() });
        match self {
            Self::Tonic(client) => client.unary_call(request).await.map(drop),
            Self::Weft(client) => client.unary_call(request).await.map(drop),
        }
    }

    async fn stream(&mut self) -> Result<(), Status> {
        let answers = match self {
            Self::Tonic(client) => client.streaming_output_call(patient(stream())).await,
            Self::Weft(client) => client.streaming_output_call(patient(stream())).await,
        };
        let (mut answers, mut received) = (answers?.into_inner(), 0);
        while answers.message().await?.is_some() {
            received += 1;
        }
        if received == MESSAGES { Ok(()) } else { Err(Status::data_loss(format!("{received} messages"))) }
    }
}

async fn call(mut client: Client, counts: Arc<Counts>) {
    while !counts.stopping.load(Ordering::Relaxed) {
        let began = Instant::now();
        let mut outcome = client.unary().await;
        while outcome.as_ref().is_err_and(is_unprocessed) {
            counts.unprocessed.fetch_add(1, Ordering::Relaxed);
            outcome = client.unary().await;
        }
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap();
        counts.slowest_nanos.fetch_max(took, Ordering::Relaxed);
        counts.ended(&counts.calls, &format!("{}, unary", client.name()), outcome);
        sleep(PAUSE).await;
    }
}

async fn receive(mut client: Client, counts: Arc<Counts>) {
    while !counts.stopping.load(Ordering::Relaxed) {
        let mut outcome = client.stream().await;
        while outcome.as_ref().is_err_and(is_unprocessed) {
            counts.unprocessed.fetch_add(1, Ordering::Relaxed);
            outcome = client.stream().await;
        }
        counts.ended(&counts.streams, &format!("{}, stream", client.name()), outcome);
        sleep(PAUSE).await;
    }
}

/// With a deadline that only a call that hangs can meet, however busy the machine.
fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(LIMIT);
    request
}

fn stream() -> StreamingOutputCallRequest {
    let interval_us = i32::try_from(INTERVAL.as_micros()).unwrap();
    let answer = ResponseParameters { size: ANSWER_BYTES, interval_us };
    StreamingOutputCallRequest { response_parameters: vec![answer; MESSAGES], ..Default::default() }
}

impl Load {
    pub(crate) fn start(gateway: SocketAddr) -> Self {
        let (counts, tasks) = (Arc::new(Counts::default()), TaskTracker::new());
        let endpoint = Endpoint::from_shared(format!("http://{gateway}")).unwrap();
        let clients = [
            Client::Tonic(TestServiceClient::new(endpoint.connect_lazy())),
            Client::Weft(TestServiceClient::new(weft_mesh::Channel::direct(gateway))),
        ];
        let mut callers = Vec::new();
        for client in clients {
            let unary = (0..UNARY_CALLERS).map(|_| tasks.spawn(call(client.clone(), Arc::clone(&counts))));
            callers.extend(unary);
            let streams =
                (0..STREAM_CALLERS).map(|_| tasks.spawn(receive(client.clone(), Arc::clone(&counts))));
            callers.extend(streams);
        }
        Self { counts, callers }
    }

    /// Returns when every kind of call has been answered anew.
    pub(crate) async fn moves_on(&self) {
        let (calls, streams) = self.reached();
        self.reaches(calls + 100, streams + 16).await;
    }

    /// Returns when there have been so many.
    pub(crate) async fn reaches(&self, calls: u64, streams: u64) {
        let mut last = self.reached();
        while last.0 < calls || last.1 < streams {
            // However many there are to be: some of them within the limit.
            eventually(LIMIT, || async { self.reached() != last }).await;
            last = self.reached();
        }
    }

    fn reached(&self) -> (u64, u64) {
        (self.counts.calls.load(Ordering::Relaxed), self.counts.streams.load(Ordering::Relaxed))
    }

    pub(crate) async fn stop(mut self) -> Report {
        self.counts.stopping.store(true, Ordering::Relaxed);
        for caller in std::mem::take(&mut self.callers) {
            caller.await.unwrap();
        }
        let (calls, streams) = self.reached();
        let unprocessed = self.counts.unprocessed.load(Ordering::Relaxed);
        let slowest = Duration::from_nanos(self.counts.slowest_nanos.load(Ordering::Relaxed));
        let failures = std::mem::take(&mut *self.counts.failures.lock().unwrap());
        Report { calls, streams, unprocessed, slowest, failures }
    }
}
