//! RabbitMQ as the broker: one durable quorum queue per class of jobs, publisher confirms, manual acknowledgement.
//!
//! A message carries the job's id and nothing that could grow old. Attempts, delays and dead letters are the job
//! store's: no TTL, no dead-letter exchange, and `x-delivery-count` is not looked at, since versions count differently.

mod link;
mod publish;
mod receive;
mod topology;

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{link::Link, publish::Publisher, receive::RabbitSubscription, topology::Topology};
use super::{Broker, Subscription};
use crate::{
    error::Error,
    job::Queue,
    jobs::{Pending, Result},
};

/// Seconds between heartbeats, unless the URL says otherwise: a peer that vanished is noticed after twice that.
const HEARTBEAT: u16 = 10;

/// RabbitMQ 3.10 or later.
pub struct RabbitMqBroker {
    publisher: Publisher,
    /// Its own connection: when RabbitMQ holds back publishers, acknowledgements still get through.
    consumers: Link,
    timeout: Duration,
    tasks: TaskTracker,
}

impl RabbitMqBroker {
    /// Begins to connect, and goes on doing so until `stopping`, whatever happens.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn start(
        url: &str,
        timeout: Duration,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Result<RabbitMqBroker> {
        // lapin's error quotes the URL, which may hold a password.
        let mut uri = AMQPUri::from_str(url).map_err(|_| Error::broker("the AMQP URL is malformed"))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let topology = Arc::<Topology>::default();
        let link =
            |name: &str| Link::start(name, uri.clone(), timeout, topology.clone(), tasks, stopping.clone());
        Ok(RabbitMqBroker {
            publisher: Publisher::new(link("weft-queue publisher"), timeout),
            consumers: link("weft-queue consumer"),
            timeout,
            tasks: tasks.clone(),
        })
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn backend(&self) -> &'static str {
        "rabbitmq"
    }

    fn connected(&self) -> bool {
        self.publisher.connected() && self.consumers.connected()
    }

    fn needs_publishing(&self) -> bool {
        true
    }

    fn wake(&self, _queue: Queue) {}

    async fn publish(&self, jobs: &[Pending]) -> Vec<Result<()>> {
        self.publisher.publish(jobs).await
    }

    fn subscribe(&self, queue: Queue, prefetch: usize) -> Box<dyn Subscription> {
        let (link, tasks) = (self.consumers.clone(), self.tasks.clone());
        Box::new(RabbitSubscription::new(link, queue, prefetch, self.timeout, tasks))
    }

    async fn backlog(&self, queue: Queue) -> Result<Option<u64>> {
        let count = async {
            let connection = self.consumers.connection().await?;
            Ok(topology::waiting(&connection, queue).await?.unwrap_or(0))
        };
        bounded(self.timeout, count).await.map(Some)
    }
}

/// Nothing waits for RabbitMQ longer than this.
async fn bounded<T>(timeout: Duration, operation: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(timeout, operation).await {
        Ok(result) => result,
        Err(_) => Err(Error::broker(format!("no answer within {timeout:?}"))),
    }
}
