//! Publishing: persistent, mandatory, confirmed, many at a time.

use std::time::Duration;

use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Mutex;

use super::{
    bounded,
    link::{Link, LinkChannel},
};
use crate::{
    error::Error,
    jobs::{Pending, Result},
};

/// The version of the message: a consumer that does not know it leaves the message alone.
pub(super) const VERSION: u8 = 1;
const PERSISTENT: u8 = 2;

/// Publishes on a channel of its own, which it opens again when it breaks.
pub(super) struct Publisher {
    link: Link,
    channel: Mutex<Option<LinkChannel>>,
    timeout: Duration,
}

impl Publisher {
    pub(super) fn new(link: Link, timeout: Duration) -> Publisher {
        Publisher { link, channel: Mutex::new(None), timeout }
    }

    pub(super) fn connected(&self) -> bool {
        self.link.connected()
    }

    /// Publishes jobs and waits for all confirms. One failure makes the next call begin on a new channel.
    pub(super) async fn publish(&self, jobs: &[Pending]) -> Vec<Result<()>> {
        let mut channel = self.channel.lock().await;
        let outcome = bounded(self.timeout, publish_all(&self.link, &mut channel, jobs)).await;
        let results = outcome.unwrap_or_else(|error| {
            let error = std::sync::Arc::new(error);
            jobs.iter().map(|_| Err(Error::shared(&error))).collect()
        });
        if results.iter().any(Result::is_err) {
            *channel = None;
        }
        results
    }
}

async fn publish_all(
    link: &Link,
    slot: &mut Option<LinkChannel>,
    jobs: &[Pending],
) -> Result<Vec<Result<()>>> {
    let channel = match slot.take().filter(LinkChannel::connected) {
        Some(channel) => channel,
        None => open(link).await?,
    };
    let mut confirms = Vec::with_capacity(jobs.len());
    for job in jobs {
        confirms.push(send(&channel, job).await);
    }
    let results = join_all(confirms.into_iter().map(confirmed)).await;
    *slot = Some(channel);
    Ok(results)
}

async fn open(link: &Link) -> Result<LinkChannel> {
    let channel = link.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(Error::broker)?;
    Ok(channel)
}

async fn send(channel: &Channel, job: &Pending) -> Result<PublisherConfirm> {
    let mut headers = FieldTable::default();
    headers.insert("weft-version".into(), AMQPValue::ShortShortUInt(VERSION));
    if !job.traceparent.is_empty() {
        headers.insert("traceparent".into(), AMQPValue::LongString(job.traceparent.clone().into()));
    }
    let id = job.id.to_string();
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("text/plain".into())
        .with_message_id(id.clone().into())
        .with_headers(headers);
    // Without `mandatory` a message that fits no queue is confirmed all the same.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let routing_key = job.queue.name().into();
    channel
        .basic_publish("".into(), routing_key, options, id.as_bytes(), properties)
        .await
        .map_err(Error::broker)
}

async fn confirmed(sent: Result<PublisherConfirm>) -> Result<()> {
    match sent?.await.map_err(Error::broker)? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(Error::broker("the queue is gone: the message was returned")),
        Confirmation::Nack(_) => Err(Error::broker("RabbitMQ refused the message")),
        Confirmation::NotRequested => Err(Error::broker("the channel is not in confirm mode")),
    }
}
