//! Sends calls when they are due.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use super::{
    call::{Answer, Ending, call, request},
    connection::{Connection, Drivers},
    report::{Report, Tally},
    workload::{Arrival, Schedule, Workload},
};

/// What bounds the memory: no load makes more calls.
const MOST_CALLS: f64 = 2e6;
/// How much longer than `grpc-timeout` a call is waited for, so that a gateway has the first word on it.
const GRACE: Duration = Duration::from_millis(500);

/// Calls at a rate, whatever becomes of them.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Where the calls go; HTTP/2 with prior knowledge.
    #[arg(long, value_name = "HOST:PORT")]
    pub target: SocketAddr,
    /// Calls per second on average; they arrive as a Poisson process.
    #[arg(long)]
    pub rate: f64,
    /// For how many seconds, the warm-up not counted.
    #[arg(long)]
    pub seconds: f64,
    /// For how many seconds before them calls are made that the report leaves out.
    #[arg(long, default_value_t = 0.0)]
    pub warm_up: f64,
    /// The service times that calls ask for.
    #[arg(long, value_enum)]
    pub workload: Workload,
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

/// Makes all calls and waits until each has ended, at the latest by its timeout. A call's time runs from when it was due:
/// one that could not be sent then is late by as much.
///
/// # Errors
/// When what is asked for is not possible, or would take too much memory.
pub async fn run(load: &Load) -> io::Result<Report> {
    load.validate().map_err(io::Error::other)?;
    let drivers = Drivers::default();
    let connection = |_| Arc::new(Connection::new(load.target, drivers.clone()));
    let connections: Vec<_> = (0..load.connections).map(connection).collect();
    for connection in &connections {
        connection.ready().await?;
    }
    let (calls, tally) = (TaskTracker::new(), Arc::new(Mutex::new(Tally::default())));
    let (start, end) = (Instant::now(), Duration::from_secs_f64(load.warm_up + load.seconds));
    let due = Schedule::new(load.workload, load.rate, load.seed).take_while(|arrival| arrival.at < end);
    for (arrival, connection) in due.zip(connections.iter().cycle()) {
        sleep_until(start + arrival.at).await;
        calls.spawn(one(load.clone(), start, arrival, Arc::clone(connection), Arc::clone(&tally)));
    }
    calls.close();
    calls.wait().await;
    drivers.finish().await;
    let tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(tally.report())
}

async fn one(
    load: Load,
    start: Instant,
    arrival: Arrival,
    connection: Arc<Connection>,
    tally: Arc<Mutex<Tally>>,
) {
    let due = start + arrival.at;
    let request = request(load.target, arrival.service, load.timeout);
    let answer = timeout_at(due + load.timeout + GRACE, call(&connection, request)).await;
    let answer = answer.unwrap_or_else(|_| Answer::by_nobody(Ending::Timeout));
    if arrival.at.as_secs_f64() >= load.warm_up {
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.record(answer, due.elapsed(), arrival.service);
    }
}

impl Load {
    fn validate(&self) -> Result<(), &'static str> {
        let seconds = self.seconds + self.warm_up;
        if self.rate.is_nan() || self.rate <= 0.0 {
            return Err("the rate must be more than 0");
        }
        if !(self.seconds > 0.0 && self.warm_up >= 0.0) {
            return Err("it must last more than 0 s");
        }
        if self.connections == 0 {
            return Err("without a connection no call can be made");
        }
        if self.rate * seconds > MOST_CALLS {
            return Err("these are more than two million calls");
        }
        Ok(())
    }
}

/// A number with a unit, `s` or `ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    let seconds = number.parse().map(|number: f64| number * unit).ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("{text:?} is not a time such as 10s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for nonsense in ["", "10", "s", "-1s", "1m", "NaNs"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_load_without_bound_is_refused() {
        let load = Load {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            rate: 1000.0,
            seconds: 10.0,
            warm_up: 1.0,
            workload: Workload::Constant,
            connections: 1,
            seed: 1,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(load.validate(), Ok(()));
        for (rate, seconds) in
            [(f64::INFINITY, 1.0), (f64::NAN, 1.0), (0.0, 1.0), (1.0, f64::NAN), (1.0, 1e9)]
        {
            assert!(Load { rate, seconds, ..load.clone() }.validate().is_err(), "{rate} for {seconds} s");
        }
        assert!(Load { connections: 0, ..load }.validate().is_err());
    }
}
