//! Opens streams and holds them all at once.

mod report;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::task::TaskTracker;

pub use self::report::StreamsReport;
use self::report::Tally;
use super::{
    asked::{Asked, Stream},
    call::{Answer, Ending, call, request},
    connection::{Connection, Drivers},
    message::{MOST_BYTES, Received, plain},
    options::duration,
};

const MOST_STREAMS: usize = 100_000;
/// What bounds the memory: 8 bytes for each.
const MOST_MESSAGES: u64 = 10_000_000;

/// Streams at once, each answered with messages at fixed times.
#[derive(Clone, Debug, clap::Args)]
pub struct Streams {
    /// Where the streams go; HTTP/2 with prior knowledge.
    #[arg(long, value_name = "HOST:PORT")]
    pub target: SocketAddr,
    /// How many.
    #[arg(long)]
    pub streams: usize,
    /// How many connections they go round.
    #[arg(long, default_value_t = 10)]
    pub connections: usize,
    /// How many messages each is answered with; the first one at once.
    #[arg(long)]
    pub messages: u64,
    /// The time from one message to the next.
    #[arg(long, value_parser = duration)]
    pub interval: Duration,
    /// The size of each message; 16 bytes of it say number and time.
    #[arg(long, default_value_t = 100)]
    pub bytes: usize,
    /// Each is opened at a random moment within this time, so that they do not tick in step.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub ramp: Duration,
    /// The same moments for the same seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How much longer a stream may take than its messages; `grpc-timeout` says so too.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub patience: Duration,
}

/// Streams under way.
struct Run {
    streams: Streams,
    start: Instant,
    tally: Mutex<Tally>,
}

/// Opens all streams, says how many when each has its first message or has ended without, and waits for their ends.
///
/// # Errors
/// When what is asked for is not possible, or would take too much memory.
pub async fn hold(streams: &Streams, opened: impl FnOnce(usize)) -> io::Result<StreamsReport> {
    streams.validate().map_err(io::Error::other)?;
    let drivers = Drivers::default();
    let connections = Connection::open(streams.connections, streams.target, &drivers).await?;
    let run = Arc::new(Run { streams: streams.clone(), start: Instant::now(), tally: Mutex::default() });
    let (tasks, mut random) = (TaskTracker::new(), Rng::with_seed(streams.seed));
    let (sender, mut begun) = mpsc::unbounded_channel();
    for connection in connections.iter().cycle().take(streams.streams) {
        let at = run.start + streams.ramp.mul_f64(random.f64());
        let (run, connection, sender) = (Arc::clone(&run), Arc::clone(connection), sender.clone());
        tasks.spawn(async move { run.one(at, &connection, sender).await });
    }
    // Each stream lets go of its sender when it has begun.
    drop(sender);
    let mut count = 0;
    while begun.recv().await.is_some() {
        count += 1;
    }
    opened(count);
    tasks.close();
    tasks.wait().await;
    drivers.finish().await;
    let tally = std::mem::take(&mut *run.tally.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(tally.report(streams.messages))
}

impl Run {
    async fn one(&self, at: Instant, connection: &Connection, begun: mpsc::UnboundedSender<()>) {
        sleep_until(at).await;
        let Streams { target, messages, interval, bytes, .. } = self.streams;
        let asked = Asked { bytes, stream: Some(Stream { messages, interval }), ..Asked::default() };
        let limit = self.streams.lasts() + self.streams.patience;
        let (mut received, mut begun) = (Received::default(), Some(begun));
        let take = |piece: &[u8]| {
            if let Some(begun) = begun.take() {
                // Whoever counts is there until the last one has begun.
                let _ = begun.send(());
            }
            received.take(piece)
        };
        let answer = call(connection, request(target, &asked, limit), plain(bytes), take);
        let answer = timeout_at(Instant::now() + limit, answer).await;
        let answer = answer.unwrap_or_else(|_| Answer::by_nobody(Ending::Timeout));
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.record(answer, received.into_late_ms());
    }
}

impl Streams {
    /// From the first message to the last.
    fn lasts(&self) -> Duration {
        self.interval.saturating_mul(self.messages.saturating_sub(1).try_into().unwrap_or(u32::MAX))
    }

    fn validate(&self) -> Result<(), &'static str> {
        if !(1..=MOST_STREAMS).contains(&self.streams) {
            return Err("there must be 1 to 100,000 streams");
        }
        if self.connections == 0 {
            return Err("without a connection no stream can be opened");
        }
        if self.messages.saturating_mul(self.streams as u64) > MOST_MESSAGES {
            return Err("these are more than ten million messages");
        }
        if self.bytes > MOST_BYTES {
            return Err("a message has at most 1 MiB");
        }
        let day = Duration::from_secs(24 * 60 * 60);
        if self.lasts().max(self.ramp).max(self.patience) > day {
            return Err("no stream lasts for more than a day");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_without_bound_are_refused() {
        let streams = Streams {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            streams: 1000,
            connections: 10,
            messages: 200,
            interval: Duration::from_millis(50),
            bytes: 100,
            ramp: Duration::from_secs(1),
            seed: 1,
            patience: Duration::from_secs(10),
        };
        assert_eq!((streams.validate(), streams.lasts()), (Ok(()), Duration::from_millis(9950)));
        let refused = [
            Streams { streams: 0, ..streams.clone() },
            Streams { streams: usize::MAX, messages: 0, ..streams.clone() },
            Streams { messages: u64::MAX, ..streams.clone() },
            Streams { connections: 0, ..streams.clone() },
            Streams { bytes: usize::MAX, ..streams.clone() },
            Streams { interval: Duration::MAX, ..streams.clone() },
            Streams { ramp: Duration::MAX, ..streams.clone() },
            Streams { patience: Duration::MAX, ..streams },
        ];
        for streams in refused {
            assert!(streams.validate().is_err(), "{streams:?}");
        }
    }
}
