//! Handlers: what is done for each type of job.
//!
//! A handler may run more than once for one job, and two may even run at once for a moment, when a worker stalled and
//! its lease ended. So every effect carries the job's id or a version, under which the receiving service does it once.

pub mod chat;
pub mod document;
pub mod notification;

use std::{sync::Arc, time::Duration};

use crate::{
    job::{Job, Queue},
    worker::output::Output,
};
use prost::Message;
use weft_mesh::{
    context::{self, Context},
    error::{CallError, ErrorKind},
};

use self::{chat::ChatHandler, document::DocumentHandler, notification::NotificationHandler};

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt may do better.
    Retry {
        /// Why.
        message: String,
        /// Not before this, because the other side asked for it.
        after: Duration,
    },
    /// No other attempt can.
    Permanent {
        /// Why.
        message: String,
    },
}

impl Failure {
    /// Another attempt may do better.
    pub fn retry(message: impl Into<String>) -> Failure {
        Failure::Retry { message: message.into(), after: Duration::ZERO }
    }

    /// No other attempt can do better.
    pub fn permanent(message: impl Into<String>) -> Failure {
        Failure::Permanent { message: message.into() }
    }

    /// A call to another service failed.
    #[must_use]
    pub fn call(what: &str, error: &CallError) -> Failure {
        let message = format!("{what}: {error}");
        // What is internal to another service may be a bug that a restart or an update mends.
        // And one that does not believe who calls may have other keys than this, until both have been started again.
        if error.kind.retryable() || matches!(error.kind, ErrorKind::Internal | ErrorKind::Unauthenticated) {
            Failure::Retry { message, after: error.retry_after.unwrap_or_default() }
        } else {
            Failure::Permanent { message }
        }
    }

    /// Why, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Failure::Retry { message, .. } | Failure::Permanent { message } => message,
        }
    }
}

/// The type of the jobs of a queue.
#[must_use]
pub fn kind(queue: Queue) -> &'static str {
    match queue {
        Queue::Chat => "weft.queue.v1.ReplyToChat",
        Queue::Document => "weft.queue.v1.IngestDocument",
        Queue::Notification => "weft.queue.v1.DeliverNotification",
    }
}

/// Whether a queue takes a type of job.
///
/// # Errors
/// Why not.
pub fn accepts(queue: Queue, kind: &str) -> Result<(), String> {
    let expected = self::kind(queue);
    if kind == expected {
        Ok(())
    } else {
        let kind: String = kind.chars().take(200).collect();
        Err(format!("no handler: {queue} takes jobs of the type {expected}, not \"{kind}\""))
    }
}

/// All handlers. Clones share them.
#[derive(Clone)]
pub struct Handlers {
    /// For `chat_queue`.
    pub chat: Arc<ChatHandler>,
    /// For `document_queue`.
    pub document: Arc<DocumentHandler>,
    /// For `notification_queue`.
    pub notification: Arc<NotificationHandler>,
}

impl Handlers {
    /// Runs one attempt, acting for the job's owner.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn run(&self, job: &Job, payload: &[u8], output: &Output) -> Result<(), Failure> {
        accepts(job.queue, &job.kind).map_err(Failure::permanent)?;
        let attempt = async {
            match job.queue {
                Queue::Chat => self.chat.run(job, decode(job, payload)?, output).await,
                Queue::Document => self.document.run(job, decode(job, payload)?, output).await,
                Queue::Notification => self.notification.run(job, decode(job, payload)?).await,
            }
        };
        context::scope(Context::acting_for(&job.owner), attempt).await
    }

    /// Tells those who wait for the effect of a job that there will be none, before it becomes a dead letter.
    ///
    /// # Errors
    /// Why they could not be told.
    pub async fn give_up(&self, job: &Job, payload: &[u8], reason: &str) -> Result<(), Failure> {
        if job.queue != Queue::Document || accepts(job.queue, &job.kind).is_err() {
            return Ok(());
        }
        let Ok(payload) = decode(job, payload) else { return Ok(()) };
        let told = self.document.give_up(&payload, reason);
        context::scope(Context::acting_for(&job.owner), told).await
    }
}

fn decode<M: Message + Default>(job: &Job, payload: &[u8]) -> Result<M, Failure> {
    let undecodable = |error| Failure::permanent(format!("the payload is no {}: {error}", job.kind));
    M::decode(payload).map_err(undecodable)
}
