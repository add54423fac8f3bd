//! A chat's answer on its way through the gateway while a process that it comes from is killed: the replica of the queue
//! that streams it to the client, then the worker that has it from the provider.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use tempfile::TempDir;
use tokio::time::timeout;
use weft_client::{Event, JobEvent, JobEvents, Watch};
use weft_proto::{
    database::v1::Role,
    gateway::v1::{Backend, Health},
    queue::v1::{Job, JobRetry, JobState},
};
use weft_testkit::{Servers, eventually, eventually_ok};

use crate::{
    process::LIMIT,
    provider::stub::{Answer, Provider},
    services::{Gateway, Replica, peer, pool},
};

const PIECES: [&str; 8] =
    ["High tide", " is at six,", " low tide", " at noon.", " The boats", " go out", " an hour", " later."];
/// The piece that is under way at the kill.
const KILLED_AT: usize = 3;
/// The longest that the rest may take: less than a second, unless the machine is overloaded. No lease, no deadline is
/// waited for.
const PAUSE: Duration = Duration::from_secs(10);

/// Two queues that answer calls, a third one that works, a database and a cache, behind the gateway.
struct Fleet {
    gateway: Gateway,
    /// The id of a chat.
    chat: String,
    streamers: Vec<Replica>,
    worker: Replica,
    worker_config: String,
    folder: TempDir,
    _database: Replica,
    _cache: Replica,
    _servers: Servers,
}

impl Fleet {
    /// Starts it before a provider, with more configuration for the worker.
    async fn start(provider: &Provider, worker: &str) -> Self {
        let servers = Servers::start().await.unwrap();
        let all: toml::Table = servers.config().parse().unwrap();
        let section = |name: &str| toml::to_string(&all[name]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let start = |name: &str, index, more: &str| Replica::start(name, folder.path(), index, more);

        let queue = section("queue");
        let streamers: Vec<_> =
            (0..2).map(|index| start("queue", index, &format!("roles = [\"api\"]\n{queue}"))).collect();
        let queues: Vec<_> = streamers.iter().map(|replica| replica.address).collect();
        let cache = start("cache", 0, &section("cache"));
        let peers = peer("queue", &queues) + &peer("cache", &[cache.address]);
        let database = start("database", 0, &(peers + &section("database")));
        let worker_config = format!(
            "roles = [\"worker\"]\nprovider = {}\n{worker}{}{queue}",
            provider.config(),
            peer("database", &[database.address])
        );
        let worker = start("queue", 2, &worker_config);

        let pools =
            pool("queue", "QueueService", &queues) + &pool("database", "InsightService", &[database.address]);
        let gateway = Gateway::start(folder.path(), &pools).await;
        eventually(LIMIT, || gateway.is_healthy()).await;
        let create = || async { gateway.client.chats().create("tides", "", "one").await };
        let chat = eventually_ok(LIMIT, create).await.id;
        Self {
            gateway,
            chat,
            streamers,
            worker,
            worker_config,
            folder,
            _database: database,
            _cache: cache,
            _servers: servers,
        }
    }

    /// Asks a question, and begins to read the answer.
    async fn ask(&self) -> Reading {
        let question = self.gateway.client.messages().post(&self.chat, "When is high tide?", "one").await;
        let events = self.gateway.client.jobs().watch(&question.unwrap().job_id, Watch::default());
        Reading { events, last: 0 }
    }

    /// The replica of the queue that the one call in flight is on: the client's stream.
    async fn streaming(&self) -> String {
        let mut queues = self.gateway.backends("queue").await;
        queues.retain(|queue| queue.in_flight > 0);
        let [queue] = <[Backend; 1]>::try_from(queues).expect("one replica streams");
        assert_eq!(queue.in_flight, 1, "{queue:?}");
        queue.address
    }

    /// A replica of the queue, as the gateway sees it.
    async fn queue(&self, address: &str) -> Backend {
        let queues = self.gateway.backends("queue").await;
        queues.into_iter().find(|queue| queue.address == address).unwrap()
    }

    /// Once the gateway knows that a replica is dead, it gives it no call.
    async fn assert_spared(&self, dead: &str, job: &str) {
        eventually(LIMIT, || async { self.queue(dead).await.health() == Health::Unhealthy }).await;
        let calls = self.queue(dead).await.calls;
        for _ in 0..10 {
            self.gateway.client.jobs().get(job).await.unwrap();
        }
        assert_eq!(self.queue(dead).await.calls, calls);
    }

    /// `kill -9` of a replica of the queue.
    async fn kill(&mut self, address: &str) {
        let mut streamers = self.streamers.iter_mut();
        let victim = streamers.find(|replica| replica.address.to_string() == address).unwrap();
        victim.child.kill().await.unwrap();
    }

    /// `kill -9` of the worker, whose successor is there already, so that nothing but the lease is waited for.
    async fn replace_worker(&mut self) {
        let successor = Replica::start("queue", self.folder.path(), 3, &self.worker_config);
        let mut worker = std::mem::replace(&mut self.worker, successor);
        worker.child.kill().await.unwrap();
    }

    /// The answer as it is stored, once.
    async fn stored(&self) -> String {
        let messages: Vec<_> = self.gateway.client.messages().list(&self.chat).try_collect().await.unwrap();
        let roles: Vec<_> = messages.iter().map(|message| message.role()).collect();
        assert_eq!(roles, [Role::Assistant, Role::User]);
        messages[0].content.clone()
    }
}

/// A client that reads an answer while it is written. No error reaches it.
struct Reading {
    events: JobEvents,
    last: u64,
}

impl Reading {
    /// The next event, which follows the one before.
    async fn event(&mut self) -> Event {
        let next = timeout(LIMIT, self.events.next()).await.expect("the answer goes on");
        let JobEvent { sequence, event } = next.expect("the answer has not ended").unwrap();
        assert_eq!(sequence, self.last + 1, "none is lost, none comes twice: {event:?}");
        self.last = sequence;
        event
    }

    async fn piece(&mut self) -> String {
        match self.event().await {
            Event::Output(output) => output.text,
            other => panic!("no piece of the answer, but {other:?}"),
        }
    }

    async fn retry(&mut self) -> JobRetry {
        match self.event().await {
            Event::Retry(retry) => retry,
            other => panic!("no new attempt, but {other:?}"),
        }
    }

    async fn end(&mut self) -> Job {
        match self.event().await {
            Event::Ended(job) => job,
            other => panic!("not the end, but {other:?}"),
        }
    }
}

/// The provider writes pieces, each when the client has the one before.
async fn relay(answer: &Answer, reading: &mut Reading, pieces: &[&str]) {
    for piece in pieces {
        answer.write(piece);
        assert_eq!(reading.piece().await, *piece);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_when_the_replica_that_streams_it_is_killed() {
    let (provider, [answer]) = Provider::start().await;
    let mut fleet = Fleet::start(&provider, "").await;
    let mut reading = fleet.ask().await;
    relay(&answer, &mut reading, &PIECES[..KILLED_AT]).await;

    let victim = fleet.streaming().await;
    answer.write(PIECES[KILLED_AT]);
    fleet.kill(&victim).await;
    let killed = Instant::now();
    assert_eq!(reading.piece().await, PIECES[KILLED_AT]);
    relay(&answer, &mut reading, &PIECES[KILLED_AT + 1..]).await;
    assert!(killed.elapsed() < PAUSE, "the rest took {:?}", killed.elapsed());
    assert_ne!(fleet.streaming().await, victim, "the other one has taken the stream over");

    answer.end();
    let job = reading.end().await;
    assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 1), "{job:?}");
    assert_eq!(fleet.stored().await, PIECES.concat());
    fleet.assert_spared(&victim, &job.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_over_once_when_its_worker_is_killed() {
    let (provider, [first, second]) = Provider::start().await;
    // A lease this long outlasts what a busy machine makes a worker wait: to lose it would be one more attempt.
    let mut fleet = Fleet::start(&provider, "workers = { lease = \"5s\", heartbeat = \"500ms\" }\n").await;
    let mut reading = fleet.ask().await;
    relay(&first, &mut reading, &PIECES[..KILLED_AT]).await;

    fleet.replace_worker().await;
    let lost = reading.retry().await.error.unwrap();
    // A provider that is silent for too long would be another reason.
    assert!(lost.message.ends_with("was not heard of until its lease ended"), "{lost:?}");

    // Other words than before the kill, which are void.
    let mut again = PIECES;
    again.reverse();
    relay(&second, &mut reading, &again).await;
    second.end();
    let job = reading.end().await;
    assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 2), "{job:?}");
    assert_eq!(fleet.stored().await, again.concat());
}
