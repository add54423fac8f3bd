//! Receiving: a consumer with a bounded prefetch, which comes back by itself.

use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    Acker, Consumer,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions},
    types::FieldTable,
};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    bounded,
    link::{Link, LinkChannel, RECONNECT},
    topology,
};
use crate::{
    broker::{Delivery, Receipt, Settle, Subscription},
    error::Error,
    job::Queue,
    jobs::Result,
};

/// How long a consumer may hear nothing before it looks whether messages wait. One that registered with a queue while
/// that was being deleted is told of neither the deletion nor of what comes into the queue of the same name.
const SILENCE: Duration = Duration::from_secs(5);

/// A consumer of one queue.
pub(super) struct RabbitSubscription {
    link: Link,
    queue: Queue,
    prefetch: u16,
    timeout: Duration,
    tasks: TaskTracker,
    consumer: Option<Opened>,
    opening: Option<JoinHandle<Result<Opened>>>,
    failures: u32,
}

/// The channel goes with its consumer: acknowledgements need it.
type Opened = (LinkChannel, Consumer);

impl RabbitSubscription {
    pub(super) fn new(
        link: Link,
        queue: Queue,
        prefetch: usize,
        timeout: Duration,
        tasks: TaskTracker,
    ) -> RabbitSubscription {
        let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX).max(1);
        RabbitSubscription {
            link,
            queue,
            prefetch,
            timeout,
            tasks,
            consumer: None,
            opening: None,
            failures: 0,
        }
    }

    /// Begins anew after a pause; a queue that was deleted or a broker that is away takes a while.
    ///
    /// Opening is a task of its own, which a dropped `next` does not stop half-way: a consumer that the broker has and
    /// nobody took would keep its deliveries from all others, and the lock under which queues are made would stay.
    async fn reopen(&mut self) {
        let opening = self.opening.get_or_insert_with(|| {
            let (link, queue, prefetch) = (self.link.clone(), self.queue, self.prefetch);
            let (failures, timeout) = (self.failures, self.timeout);
            self.tasks.spawn(async move {
                if failures > 0 {
                    tokio::time::sleep(RECONNECT.delay(failures, fastrand::f64(), Duration::ZERO)).await;
                }
                bounded(timeout, open(&link, queue, prefetch)).await
            })
        });
        let opened = opening.await;
        self.opening = None;
        match opened.unwrap_or_else(|error| Err(Error::broker(error))) {
            Ok(consumer) => self.consumer = Some(consumer),
            Err(error) => {
                self.failures += 1;
                let error = weft_mesh::error::chain(&error);
                tracing::debug!(queue = self.queue.name(), error, "cannot consume, trying on");
            }
        }
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self, max: usize) -> Vec<Delivery> {
        loop {
            let Some((channel, consumer)) = &mut self.consumer else {
                self.reopen().await;
                continue;
            };
            // After an error lapin's stream may go on or end; either way its channel is of no use any more.
            let next = tokio::select! {
                next = consumer.next() => next,
                () = channel.lost() => None,
                () = forgotten(&self.link, self.queue, self.timeout) => {
                    tracing::warn!(queue = self.queue.name(), "messages wait and do not come, consuming anew");
                    None
                }
            };
            let Some(Ok(first)) = next else {
                self.failures += 1;
                self.consumer = None;
                continue;
            };
            let mut messages = vec![first];
            while messages.len() < max
                && let Some(Some(Ok(more))) = consumer.next().now_or_never()
            {
                messages.push(more);
            }
            self.failures = 0;
            let mut deliveries = Vec::with_capacity(messages.len());
            for message in messages {
                deliveries.extend(decode(message).await);
            }
            if !deliveries.is_empty() {
                return deliveries;
            }
        }
    }
}

/// Returns when messages wait in a queue although its consumer, which has room, hears nothing.
async fn forgotten(link: &Link, queue: Queue, timeout: Duration) {
    loop {
        tokio::time::sleep(SILENCE).await;
        let waiting = async { topology::waiting(&*link.connection().await?, queue).await };
        // A queue that is gone, too, has forgotten its consumers. What cannot be asked is no reason to begin anew.
        if bounded(timeout, waiting).await.is_ok_and(|waiting| waiting != Some(0)) {
            return;
        }
    }
}

async fn open(link: &Link, queue: Queue, prefetch: u16) -> Result<(LinkChannel, Consumer)> {
    let channel = link.channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(Error::broker)?;
    let (name, options) = (queue.name().into(), BasicConsumeOptions::default());
    let consumer = channel.basic_consume(name, "".into(), options, FieldTable::default()).await;
    Ok((channel, consumer.map_err(Error::broker)?))
}

/// The job a message tells of. What is no such message goes: nobody here has put it there.
async fn decode(message: Message) -> Option<Delivery> {
    let id = std::str::from_utf8(&message.data).ok().and_then(|text| Uuid::parse_str(text).ok());
    match id {
        Some(id) => Some(Delivery { id, receipt: Receipt::new(Acknowledgement(message.acker)) }),
        None => {
            tracing::warn!(queue = %message.routing_key, "rejected a message that is no job id");
            let _ = message.acker.reject(BasicRejectOptions { requeue: false }).await;
            None
        }
    }
}

struct Acknowledgement(Acker);

#[async_trait]
impl Settle for Acknowledgement {
    async fn ack(&self) -> Result<()> {
        let acked = self.0.ack(BasicAckOptions::default());
        bounded(Duration::from_secs(5), async { acked.await.map(drop).map_err(Error::broker) }).await
    }

    async fn give_back(&self) -> Result<()> {
        let returned = self.0.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() });
        bounded(Duration::from_secs(5), async { returned.await.map(drop).map_err(Error::broker) }).await
    }
}
