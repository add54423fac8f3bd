//! Sends calls when they are due.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    asked::Asked,
    call::{Answer, Ending, call, request},
    connection::{Connection, Drivers},
    message::{MOST_BYTES, plain},
    options::{Rate, duration},
    report::{Report, Tally},
    workload::{Arrival, Schedule, Workload},
};

/// What bounds the memory: no load makes more calls.
const MOST_CALLS: usize = 2_000_000;
/// Calls that are due and wait for being sent; further ones wait outside, and are late all the same.
const MOST_WAITING: usize = 1024;
/// How much longer than `grpc-timeout` a call is waited for, so that a gateway has the first word on it.
const GRACE: Duration = Duration::from_millis(500);

/// Calls at a rate, whatever becomes of them.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Where the calls go; HTTP/2 with prior knowledge.
    #[arg(long, value_name = "HOST:PORT")]
    pub target: SocketAddr,
    /// Calls per second on average, arriving as a Poisson process; or `closed=64`: so many at once, each followed by the
    /// next when it has ended.
    #[arg(long, value_name = "CALLS|closed=CALLS")]
    pub rate: Rate,
    /// For how many seconds, the warm-up not counted.
    #[arg(long)]
    pub seconds: f64,
    /// For how many seconds before them calls are made that the report leaves out.
    #[arg(long, default_value_t = 0.0)]
    pub warm_up: f64,
    /// The service times that calls ask for.
    #[arg(long, value_enum)]
    pub workload: Workload,
    /// The size of each message, there and back.
    #[arg(long, default_value_t = 0)]
    pub bytes: usize,
    /// How many connections the calls go round.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// The same calls at the same times for the same seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What `grpc-timeout` says, such as 10s or 500ms. A call is given up half a second after it.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
}

/// A load under way.
struct Run {
    load: Load,
    message: Bytes,
    start: Instant,
    tally: Mutex<Tally>,
}

/// Makes all calls and waits until each has ended, at the latest by its timeout. A call's time runs from when it was due:
/// one that could not be sent then is late by as much. In a closed load a call is due when the one before it has ended.
///
/// # Errors
/// When what is asked for is not possible, or would take too much memory.
pub async fn run(load: &Load) -> io::Result<Report> {
    load.validate().map_err(io::Error::other)?;
    let drivers = Drivers::default();
    let connections = Connection::open(load.connections, load.target, &drivers).await?;
    let (load, message) = (load.clone(), plain(load.bytes));
    let run = Arc::new(Run { load, message, start: Instant::now(), tally: Mutex::default() });
    match run.load.rate {
        Rate::Open(rate) => run.open(rate, &connections).await?,
        Rate::Closed(calls) => run.closed(calls, &connections).await,
    }
    drivers.finish().await;
    let tally = std::mem::take(&mut *run.tally.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(tally.report())
}

impl Run {
    async fn open(self: &Arc<Self>, rate: f64, connections: &[Arc<Connection>]) -> io::Result<()> {
        let (end, start) = (self.load.end(), self.start);
        let arrivals = Schedule::new(self.load.workload, rate, self.load.seed);
        let arrivals = arrivals.take_while(move |arrival| arrival.at < end);
        let (sender, mut due) = mpsc::channel(MOST_WAITING);
        let clock = spawn_blocking(move || send_when_due(arrivals, start, &sender));
        let (calls, mut connections) = (TaskTracker::new(), connections.iter().cycle());
        while let (Some(arrival), Some(connection)) = (due.recv().await, connections.next()) {
            let (run, connection) = (Arc::clone(self), Arc::clone(connection));
            calls.spawn(async move { run.one(arrival, &connection).await });
        }
        clock.await?;
        calls.close();
        calls.wait().await;
        Ok(())
    }

    async fn closed(self: &Arc<Self>, calls: usize, connections: &[Arc<Connection>]) {
        let callers = TaskTracker::new();
        for (number, connection) in (0..calls).zip(connections.iter().cycle()) {
            let (run, connection) = (Arc::clone(self), Arc::clone(connection));
            let mut random = Rng::with_seed(run.load.seed.wrapping_add(number as u64));
            callers.spawn(async move {
                for _ in 0..MOST_CALLS / calls {
                    let arrival =
                        Arrival { at: run.start.elapsed(), service: run.load.workload.draw(&mut random) };
                    if arrival.at >= run.load.end() {
                        return;
                    }
                    run.one(arrival, &connection).await;
                }
            });
        }
        callers.close();
        callers.wait().await;
    }

    async fn one(&self, arrival: Arrival, connection: &Connection) {
        let (load, due) = (&self.load, self.start + arrival.at);
        let asked = Asked { service: arrival.service, bytes: load.bytes, stream: None };
        let request = request(load.target, &asked, load.timeout);
        let answer = call(connection, request, self.message.clone(), |_| Ok(()));
        let answer = timeout_at(due + load.timeout + GRACE, answer).await;
        let answer = answer.unwrap_or_else(|_| Answer::by_nobody(Ending::Timeout));
        if arrival.at.as_secs_f64() >= load.warm_up {
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.record(answer, due.elapsed(), arrival.service);
        }
    }
}

/// Says when each call is due. A thread of its own is late by 0.1 ms at most when the machine has time for it; a timer of
/// the runtime is late by one or two.
fn send_when_due(arrivals: impl Iterator<Item = Arrival>, start: Instant, due: &mpsc::Sender<Arrival>) {
    for arrival in arrivals {
        while let Some(early) = arrival.at.checked_sub(start.elapsed()).filter(|early| !early.is_zero()) {
            thread::park_timeout(early);
        }
        if due.blocking_send(arrival).is_err() {
            return;
        }
    }
}

impl Load {
    /// After the warm-up and what is measured, from the start.
    fn end(&self) -> Duration {
        Duration::try_from_secs_f64(self.warm_up + self.seconds).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), &'static str> {
        let seconds = self.seconds + self.warm_up;
        let calls = match self.rate {
            Rate::Open(rate) if rate.is_nan() || rate <= 0.0 => return Err("the rate must be more than 0"),
            Rate::Closed(0) => return Err("without a call at once none is made"),
            Rate::Open(rate) => rate * seconds,
            Rate::Closed(calls) => calls as f64,
        };
        if !(self.seconds > 0.0 && self.warm_up >= 0.0) {
            return Err("it must last more than 0 s");
        }
        if self.connections == 0 {
            return Err("without a connection no call can be made");
        }
        if calls > MOST_CALLS as f64 {
            return Err("these are more than two million calls");
        }
        if self.bytes > MOST_BYTES {
            return Err("a message has at most 1 MiB");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_without_bound_is_refused() {
        let load = Load {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            rate: Rate::Open(1000.0),
            seconds: 10.0,
            warm_up: 1.0,
            workload: Workload::Constant,
            bytes: 0,
            connections: 1,
            seed: 1,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(load.validate(), Ok(()));
        for (rate, seconds) in
            [(f64::INFINITY, 1.0), (f64::NAN, 1.0), (0.0, 1.0), (1.0, f64::NAN), (1.0, 1e9)]
        {
            let rate = Rate::Open(rate);
            assert!(Load { rate, seconds, ..load.clone() }.validate().is_err(), "{rate:?} for {seconds} s");
        }
        for calls in [0, 3_000_000] {
            assert!(
                Load { rate: Rate::Closed(calls), ..load.clone() }.validate().is_err(),
                "{calls} at once"
            );
        }
        assert!(Load { bytes: 2 << 20, ..load.clone() }.validate().is_err());
        assert!(Load { connections: 0, ..load }.validate().is_err());
    }
}
