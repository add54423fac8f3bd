//! The contract of [`Broker`](super::Broker), sentence by sentence, for every implementation.

use std::{any::Any, collections::BTreeSet, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{Broker, Delivery, Subscription};
use crate::{
    clock::Clock,
    job::{NewJob, Queue},
    jobs::{Jobs, Pending},
};

/// How long a delivery may take.
const SOON: Duration = Duration::from_secs(20);

/// A broker under test, and the store whose jobs it delivers.
pub(super) struct Setup {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) jobs: Arc<dyn Jobs>,
    pub(super) clock: Clock,
    pub(super) _guard: Box<dyn Any + Send + Sync>,
}

macro_rules! run {
    ($open:path; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::broker::conformance::$test($open().await).await;
        })*
    };
    ($open:path) => {
        $crate::broker::conformance::run!($open;
            c01_a_confirmed_job_is_delivered
            c02_on_its_own_queue_only
            c03_an_unsettled_delivery_comes_again
            c04_a_settled_delivery_does_not_come_again
            c05_next_waits_and_is_bounded
            c06_subscribers_share
            c07_publish_answers_for_each
        );
    };
}
pub(super) use run;

impl Setup {
    /// Stores jobs and publishes them until they are confirmed, as the relay does.
    async fn publish(&self, queue: Queue, count: usize) -> BTreeSet<Uuid> {
        let now = self.clock.now();
        let new: Vec<NewJob> = (0..count).map(|_| new_job(queue, now)).collect();
        self.jobs.insert(&new, now).await.unwrap();
        let pending =
            new.iter().map(|job| Pending { id: job.id, queue, epoch: 0, traceparent: String::new() });
        let mut left: Vec<Pending> = pending.collect();
        let all = async {
            while !left.is_empty() {
                let results = self.broker.publish(&left).await;
                assert_eq!(results.len(), left.len());
                let mut results = results.into_iter();
                left.retain(|_| results.next().unwrap().is_err());
            }
        };
        tokio::time::timeout(SOON, all).await.expect("confirmed");
        new.iter().map(|job| job.id).collect()
    }

    async fn claim(&self, deliveries: &[Delivery]) {
        let ids: Vec<Uuid> = deliveries.iter().map(|delivery| delivery.id).collect();
        let now = self.clock.now();
        self.jobs.claim(&ids, "worker", now + 60_000, now).await.unwrap();
    }
}

fn new_job(queue: Queue, now: i64) -> NewJob {
    NewJob {
        id: Uuid::now_v7(),
        queue,
        kind: crate::handler::kind(queue).into(),
        owner: "ada".into(),
        payload: Vec::new(),
        idempotency_key: None,
        max_attempts: 5,
        due_at: now,
        traceparent: String::new(),
        dead_on_arrival: None,
    }
}

async fn next(subscription: &mut Box<dyn Subscription>, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(SOON, subscription.next(max)).await.expect("a delivery")
}

/// Receives, claims and settles until so many have come.
async fn work(setup: &Setup, subscription: &mut Box<dyn Subscription>, count: usize) -> BTreeSet<Uuid> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let mut deliveries = next(subscription, 7).await;
        setup.claim(&deliveries).await;
        for delivery in &mut deliveries {
            seen.insert(delivery.id);
            delivery.receipt.ack().await;
        }
    }
    seen
}

/// Nothing waits on a queue: what is published now is all that comes. The oldest comes first, so anything else would have.
async fn is_empty(setup: &Setup, subscription: &mut Box<dyn Subscription>, queue: Queue) -> bool {
    let published = setup.publish(queue, 3).await;
    work(setup, subscription, 3).await == published
}

pub(super) async fn c01_a_confirmed_job_is_delivered(setup: Setup) {
    let mut subscription = setup.broker.subscribe(Queue::Document, 16);
    let published = setup.publish(Queue::Document, 40).await;
    assert_eq!(work(&setup, &mut subscription, 40).await, published);
    let before = setup.publish(Queue::Chat, 3).await;
    let mut late = setup.broker.subscribe(Queue::Chat, 16);
    assert_eq!(work(&setup, &mut late, 3).await, before, "also to those who come later");
}

pub(super) async fn c02_on_its_own_queue_only(setup: Setup) {
    let mut chat = setup.broker.subscribe(Queue::Chat, 16);
    let mut document = setup.broker.subscribe(Queue::Document, 16);
    let published = setup.publish(Queue::Document, 2).await;
    assert_eq!(work(&setup, &mut document, 2).await, published);
    assert!(is_empty(&setup, &mut chat, Queue::Chat).await);
}

pub(super) async fn c03_an_unsettled_delivery_comes_again(setup: Setup) {
    let published = setup.publish(Queue::Document, 2).await;
    let mut first = setup.broker.subscribe(Queue::Document, 16);
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        seen.extend(next(&mut first, 2).await.iter().map(|delivery| delivery.id));
    }
    drop(first);
    let mut second = setup.broker.subscribe(Queue::Document, 16);
    let mut deliveries = Vec::new();
    while deliveries.iter().map(|d: &Delivery| d.id).collect::<BTreeSet<_>>() != published {
        deliveries.extend(next(&mut second, 2).await);
    }
    for delivery in &mut deliveries {
        delivery.receipt.give_back().await;
    }
    assert_eq!(work(&setup, &mut second, 2).await, published, "given back, it comes again");
}

pub(super) async fn c04_a_settled_delivery_does_not_come_again(setup: Setup) {
    let mut subscription = setup.broker.subscribe(Queue::Document, 16);
    setup.publish(Queue::Document, 3).await;
    work(&setup, &mut subscription, 3).await;
    assert!(is_empty(&setup, &mut subscription, Queue::Document).await);
    drop(subscription);
    let mut another = setup.broker.subscribe(Queue::Document, 16);
    assert!(is_empty(&setup, &mut another, Queue::Document).await);
}

pub(super) async fn c05_next_waits_and_is_bounded(setup: Setup) {
    let mut subscription = setup.broker.subscribe(Queue::Document, 16);
    for _ in 0..5 {
        // Dropped while waiting, again and again.
        assert!(tokio::time::timeout(Duration::from_millis(20), subscription.next(4)).await.is_err());
    }
    let published = setup.publish(Queue::Document, 9).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 9 {
        let mut deliveries = next(&mut subscription, 4).await;
        assert!((1..=4).contains(&deliveries.len()));
        setup.claim(&deliveries).await;
        for delivery in &mut deliveries {
            seen.insert(delivery.id);
            delivery.receipt.ack().await;
        }
    }
    assert_eq!(seen, published);
}

pub(super) async fn c06_subscribers_share(setup: Setup) {
    let mut one = setup.broker.subscribe(Queue::Document, 2);
    let mut other = setup.broker.subscribe(Queue::Document, 2);
    let published = setup.publish(Queue::Document, 12).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 12 {
        let mut deliveries = tokio::select! {
            deliveries = next(&mut one, 2) => deliveries,
            deliveries = next(&mut other, 2) => deliveries,
        };
        setup.claim(&deliveries).await;
        for delivery in &mut deliveries {
            seen.insert(delivery.id);
            delivery.receipt.ack().await;
        }
    }
    assert_eq!(seen, published);
}

pub(super) async fn c07_publish_answers_for_each(setup: Setup) {
    assert_eq!(setup.broker.publish(&[]).await.len(), 0);
    let published = setup.publish(Queue::Notification, 300).await;
    let mut subscription = setup.broker.subscribe(Queue::Notification, 100);
    assert_eq!(work(&setup, &mut subscription, 300).await, published);
}

mod embedded {
    use super::*;
    use crate::{broker::embedded::EmbeddedBroker, jobs::sqlite::SqliteJobs};

    async fn open() -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let jobs = SqliteJobs::open(&folder.path().join("jobs.sqlite")).await.unwrap();
        let jobs: Arc<dyn Jobs> = Arc::new(jobs);
        let clock = Clock::system();
        let broker = EmbeddedBroker::new(jobs.clone(), clock.clone(), Duration::from_millis(50));
        Setup { broker: Arc::new(broker), jobs, clock, _guard: Box::new(folder) }
    }

    run!(open);

    #[tokio::test]
    async fn c08_deliveries_go_on_after_the_store_was_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.sqlite");
        let jobs: Arc<dyn Jobs> = Arc::new(SqliteJobs::open(&path).await.unwrap());
        let clock = Clock::manual(1000);
        let broker = EmbeddedBroker::new(jobs.clone(), clock.clone(), Duration::from_millis(10));
        let mut subscription = broker.subscribe(Queue::Document, 16);
        let (now, later) =
            (new_job(Queue::Document, 0), NewJob { due_at: 2000, ..new_job(Queue::Document, 0) });
        jobs.insert(&[later.clone(), now.clone()], 1000).await.unwrap();
        let mut first = next(&mut subscription, 9).await;
        assert_eq!(
            first.iter().map(|delivery| delivery.id).collect::<Vec<_>>(),
            [now.id],
            "one is not due yet"
        );
        jobs.claim(&[now.id], "worker", 60_000, 1000).await.unwrap();
        first[0].receipt.ack().await;
        clock.advance(Duration::from_secs(1));
        let second = next(&mut subscription, 9).await;
        assert_eq!(
            second.iter().map(|delivery| delivery.id).collect::<Vec<_>>(),
            [later.id],
            "nobody told of it"
        );
    }
}

#[cfg(feature = "real-backends")]
mod rabbitmq {
    use tokio_util::{sync::CancellationToken, task::TaskTracker};
    use weft_testkit::{FaultProxy, RabbitMq, eventually};

    use super::*;
    use crate::{broker::rabbitmq::RabbitMqBroker, jobs::sqlite::SqliteJobs};

    async fn open() -> Setup {
        open_at(&RabbitMq::shared().await.unwrap().vhost().await.unwrap()).await
    }

    async fn open_at(url: &str) -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let jobs = SqliteJobs::open(&folder.path().join("jobs.sqlite")).await.unwrap();
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let broker = RabbitMqBroker::start(url, Duration::from_secs(5), &tasks, &stopping).unwrap();
        let guard = (folder, stopping.drop_guard());
        Setup {
            broker: Arc::new(broker),
            jobs: Arc::new(jobs),
            clock: Clock::system(),
            _guard: Box::new(guard),
        }
    }

    run!(open);

    #[tokio::test]
    async fn c08_everything_goes_on_after_the_broker_was_away() {
        let server = RabbitMq::start().await.unwrap();
        let setup = open_at(server.url()).await;
        let mut subscription = setup.broker.subscribe(Queue::Document, 16);
        let before = setup.publish(Queue::Document, 5).await;
        server.stop().await.unwrap();
        eventually(SOON, || async { !setup.broker.connected() }).await;
        let job =
            Pending { id: Uuid::now_v7(), queue: Queue::Document, epoch: 0, traceparent: String::new() };
        assert!(setup.broker.publish(&[job]).await[0].is_err());
        server.restart().await.unwrap();
        eventually(Duration::from_secs(60), || async { setup.broker.connected() }).await;
        let after = setup.publish(Queue::Document, 5).await;
        let all: BTreeSet<Uuid> = before.union(&after).copied().collect();
        let mut seen = BTreeSet::new();
        while !all.is_subset(&seen) {
            seen.extend(work(&setup, &mut subscription, 1).await);
        }
    }

    #[tokio::test]
    async fn queues_made_by_many_at_once_survive_a_restart_of_the_broker() {
        let server = RabbitMq::start().await.unwrap();
        let replicas = futures::future::join_all((0..6).map(|_| open_at(server.url()))).await;
        let publish = async |replica: &Setup| {
            for queue in Queue::ALL {
                replica.publish(queue, 1).await;
            }
        };
        futures::future::join_all(replicas.iter().map(publish)).await;
        server.stop().await.unwrap();
        server.restart().await.unwrap();
        for replica in &replicas {
            eventually(Duration::from_secs(60), || async { replica.broker.connected() }).await;
        }
        futures::future::join_all(replicas.iter().map(publish)).await;
        for queue in Queue::ALL {
            assert_eq!(replicas[0].broker.backlog(queue).await.unwrap(), Some(12));
        }
    }

    #[tokio::test]
    async fn c08_a_cut_connection_is_made_again() {
        let server = RabbitMq::shared().await.unwrap();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let setup = open_at(&proxy.url(&server.vhost().await.unwrap())).await;
        let mut subscription = setup.broker.subscribe(Queue::Document, 16);
        for _ in 0..3 {
            let published = setup.publish(Queue::Document, 4).await;
            let unsettled = next(&mut subscription, 4).await;
            proxy.cut().await;
            proxy.heal().await.unwrap();
            drop(unsettled);
            let mut seen = BTreeSet::new();
            while !published.is_subset(&seen) {
                seen.extend(work(&setup, &mut subscription, 1).await);
            }
        }
    }

    #[tokio::test]
    async fn a_broker_that_hangs_does_not_hang_publishing() {
        let server = RabbitMq::shared().await.unwrap();
        let proxy = FaultProxy::start(server.address()).await.unwrap();
        let setup = open_at(&proxy.url(&server.vhost().await.unwrap())).await;
        setup.publish(Queue::Chat, 1).await;
        proxy.stall().await;
        let job = Pending { id: Uuid::now_v7(), queue: Queue::Chat, epoch: 0, traceparent: String::new() };
        let answered = tokio::time::timeout(SOON, setup.broker.publish(&[job])).await.unwrap();
        assert!(answered[0].is_err());
    }

    #[tokio::test]
    async fn a_message_that_fits_no_queue_is_returned_and_the_next_publish_makes_the_queue_again() {
        use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};
        let url = RabbitMq::shared().await.unwrap().vhost().await.unwrap();
        // One makes the queues, so that the other has no reason to look for them while it publishes.
        open_at(&url).await.publish(Queue::Chat, 1).await;
        let setup = open_at(&url).await;
        setup.publish(Queue::Document, 1).await;
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_delete("chat_queue".into(), QueueDeleteOptions::default()).await.unwrap();
        let of = |queue| Pending { id: Uuid::now_v7(), queue, epoch: 0, traceparent: String::new() };
        let answers = setup.broker.publish(&[of(Queue::Chat), of(Queue::Document)]).await;
        let refused = answers[0].as_ref().unwrap_err();
        let source = std::error::Error::source(refused).map(ToString::to_string).unwrap_or_default();
        assert!(source.contains("the message was returned"), "{refused:?}");
        assert!(answers[1].is_ok(), "what fits its queue is none the worse");
        setup.publish(Queue::Chat, 2).await;
        assert_eq!(setup.broker.backlog(Queue::Chat).await.unwrap(), Some(2));
    }

    #[tokio::test]
    async fn a_message_that_is_no_job_is_rejected_and_the_next_one_comes() {
        use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
        let url = RabbitMq::shared().await.unwrap().vhost().await.unwrap();
        let setup = open_at(&url).await;
        let mut subscription = setup.broker.subscribe(Queue::Chat, 1);
        let before = setup.publish(Queue::Chat, 1).await;
        assert_eq!(work(&setup, &mut subscription, 1).await, before);
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish(
            "".into(),
            "chat_queue".into(),
            options,
            b"junk",
            BasicProperties::default(),
        );
        publish.await.unwrap().await.unwrap();
        let published = setup.publish(Queue::Chat, 1).await;
        assert_eq!(work(&setup, &mut subscription, 1).await, published);
        assert_eq!(setup.broker.backlog(Queue::Chat).await.unwrap(), Some(0));
    }
}
