//! Publishing: persistent, mandatory, confirmed, many at a time.

use std::{collections::BTreeSet, time::Duration};

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

/// What a message says that fitted no queue: the id of its job.
type Returned = Vec<u8>;

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
    let confirms = join_all(confirms.into_iter().map(confirmed)).await;
    *slot = Some(channel);
    Ok(attribute(jobs, confirms))
}

/// Says of each job whether it is in its queue.
///
/// lapin hands a returned message to whichever confirm comes next, of a batch often another message's: what was returned
/// is told by what it says.
fn attribute(jobs: &[Pending], confirms: Vec<Result<Option<Returned>>>) -> Vec<Result<()>> {
    let returned: BTreeSet<Returned> =
        confirms.iter().filter_map(|confirm| confirm.as_ref().ok()?.clone()).collect();
    let of_job = |(job, confirm): (&Pending, Result<Option<Returned>>)| {
        confirm?;
        if returned.contains(job.id.to_string().as_bytes()) {
            return Err(Error::broker("the queue is gone: the message was returned"));
        }
        Ok(())
    };
    jobs.iter().zip(confirms).map(of_job).collect()
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

/// Waits for a confirm, and gives the returned message that came with it, this one's or another's.
async fn confirmed(sent: Result<PublisherConfirm>) -> Result<Option<Returned>> {
    match sent?.await.map_err(Error::broker)? {
        Confirmation::Ack(returned) => Ok(returned.map(|message| message.delivery.data)),
        Confirmation::Nack(_) => Err(Error::broker("RabbitMQ refused the message")),
        Confirmation::NotRequested => Err(Error::broker("the channel is not in confirm mode")),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::job::Queue;

    #[test]
    fn a_returned_message_is_told_by_its_job_and_not_by_the_confirm_it_came_with() {
        let job = || Pending { id: Uuid::now_v7(), queue: Queue::Chat, epoch: 0, traceparent: String::new() };
        let jobs = [job(), job(), job()];
        let returned = jobs[0].id.to_string().into_bytes();
        let confirms = vec![Ok(None), Ok(Some(returned)), Err(Error::broker("refused"))];
        let answers: Vec<bool> = attribute(&jobs, confirms).iter().map(Result::is_ok).collect();
        assert_eq!(answers, [false, true, false]);
    }
}
