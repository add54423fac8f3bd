//! The queues in RabbitMQ: made once, by one connection at a time.
//!
//! Declaring a quorum queue from several connections at once answers INTERNAL_ERROR on RabbitMQ 3.10. So nobody declares
//! what exists, and whoever declares holds an exclusive queue meanwhile, which serves as the lock among all replicas.

use std::time::Duration;

use lapin::{
    Channel, Connection, ErrorKind,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Mutex;

use crate::{error::Error, job::Queue, jobs::Result};

/// The lock. RabbitMQ drops it with the connection that holds it.
const LOCK: &str = "weft-queue.declaring";
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
/// RabbitMQ registers the processes of a quorum queue in a file that it saves half a second later (`names.dets`). Killed
/// before that, it has a queue without a process, which answers nobody until it is deleted.
const REGISTRATION: Duration = Duration::from_secs(1);

/// How often it is looked whether another replica is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Sees to the queues for all connections of this process: to RabbitMQ the lock is a connection's, to us it is not.
#[derive(Default)]
pub(super) struct Topology(Mutex<()>);

impl Topology {
    /// Makes sure that all queues exist, or waits until somebody else has. The caller bounds the wait.
    pub(super) async fn ensure(&self, connection: &Connection) -> Result<()> {
        let _alone = self.0.lock().await;
        while !missing(connection).await?.is_empty() {
            let Some(lock) = lock(connection).await? else {
                tokio::time::sleep(LOCK_INTERVAL).await;
                continue;
            };
            // Somebody may have made them while this one came for the lock.
            let missing = missing(connection).await?;
            for queue in &missing {
                declare(connection, *queue).await?;
            }
            if !missing.is_empty() {
                tokio::time::sleep(REGISTRATION).await;
            }
            lock.queue_delete(LOCK.into(), QueueDeleteOptions::default()).await.map_err(Error::broker)?;
        }
        Ok(())
    }
}

/// Takes the lock, unless another connection has it.
async fn lock(connection: &Connection) -> Result<Option<Channel>> {
    let channel = connection.create_channel().await.map_err(Error::broker)?;
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(LOCK.into(), options, FieldTable::default()).await {
        Ok(_) => Ok(Some(channel)),
        Err(error) if has_code(&error, RESOURCE_LOCKED) => Ok(None),
        Err(error) => Err(Error::broker(error)),
    }
}

/// How many messages of a queue wait; `None` when there is no such queue.
pub(super) async fn waiting(connection: &Connection, queue: Queue) -> Result<Option<u64>> {
    // A channel of its own: it ends with the answer that there is no such queue.
    let channel = connection.create_channel().await.map_err(Error::broker)?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(queue.name().into(), options, FieldTable::default()).await {
        Ok(declared) => Ok(Some(u64::from(declared.message_count()))),
        Err(error) if has_code(&error, NOT_FOUND) => Ok(None),
        Err(error) => Err(Error::broker(error)),
    }
}

async fn missing(connection: &Connection) -> Result<Vec<Queue>> {
    let mut missing = Vec::new();
    for queue in Queue::ALL {
        if waiting(connection, queue).await?.is_none() {
            missing.push(queue);
        }
    }
    Ok(missing)
}

async fn declare(connection: &Connection, queue: Queue) -> Result<()> {
    let channel = connection.create_channel().await.map_err(Error::broker)?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.name().into(), options, arguments).await.map(drop).map_err(Error::broker)
}

fn has_code(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == code)
}
