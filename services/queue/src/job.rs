//! What a job is: its queue, its state, its history and the events its watchers see.

pub mod backoff;
pub mod machine;
#[cfg(test)]
mod machine_tests;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Millis, error::Error};

/// The most errors a job remembers; older ones are dropped.
pub const MAX_ERRORS: usize = 20;
/// The longest error message kept, in bytes.
pub const MAX_ERROR_BYTES: usize = 2_000;

/// One of the three queues. The numbers are stored: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Queue {
    /// Answers to chat messages.
    Chat = 0,
    /// Documents to be made searchable.
    Document = 1,
    /// Notifications to users.
    Notification = 2,
}

impl Queue {
    /// All of them.
    pub const ALL: [Queue; 3] = [Queue::Chat, Queue::Document, Queue::Notification];

    /// Its name, on the wire and in the broker.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Queue::Chat => "chat_queue",
            Queue::Document => "document_queue",
            Queue::Notification => "notification_queue",
        }
    }

    /// The queue of a stored number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Queue> {
        Queue::ALL.into_iter().find(|queue| *queue as u8 == code)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Queue {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Queue::ALL
            .into_iter()
            .find(|queue| queue.name() == name)
            .ok_or_else(|| Error::InvalidQueue { name: name.chars().take(64).collect() })
    }
}

/// Where a job stands in the store. The numbers are stored: never reuse one.
///
/// Whether a waiting job is due is a matter of the clock, and so not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// For its due time, then for a worker.
    Waiting = 0,
    /// Leased by a worker.
    Running = 1,
    /// Ended well.
    Succeeded = 2,
    /// A dead letter.
    Dead = 3,
    /// Cancelled or discarded.
    Cancelled = 4,
}

impl State {
    /// The state of a stored number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<State> {
        [State::Waiting, State::Running, State::Succeeded, State::Dead, State::Cancelled]
            .into_iter()
            .find(|state| *state as u8 == code)
    }

    /// Whether a job in this state has ended. A dead letter has, until it is redriven.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, State::Succeeded | State::Dead | State::Cancelled)
    }
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it failed.
    pub time: Millis,
    /// Why, in words.
    pub message: String,
}

/// A job to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its id.
    pub id: Uuid,
    /// Its queue.
    pub queue: Queue,
    /// The full name of its payload message.
    pub kind: String,
    /// The user it belongs to.
    pub owner: String,
    /// The encoded payload.
    pub payload: Vec<u8>,
    /// Unique per owner and queue.
    pub idempotency_key: Option<String>,
    /// Attempts allowed, at least 1.
    pub max_attempts: u32,
    /// When it is to run first.
    pub due_at: Millis,
    /// W3C trace context of whoever published it; empty when there is none.
    pub traceparent: String,
    /// A reason to make it a dead letter at once.
    pub dead_on_arrival: Option<String>,
}

/// A job as stored, without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// Its queue.
    pub queue: Queue,
    /// The full name of its payload message.
    pub kind: String,
    /// The user it belongs to.
    pub owner: String,
    /// Unique per owner and queue.
    pub idempotency_key: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Attempts begun since it was published or redriven.
    pub attempts: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Grows with every claim: the fencing token of the lease.
    pub epoch: u64,
    /// The end of the lease; only while running.
    pub lease_until: Option<Millis>,
    /// Who holds the lease; only while running.
    pub worker: Option<String>,
    /// Whether a running job has been asked to stop.
    pub cancel_requested: bool,
    /// When it is to run next, or was to.
    pub due_at: Millis,
    /// When the broker confirmed the delivery for the present due time.
    pub published_at: Option<Millis>,
    /// When it was published.
    pub created_at: Millis,
    /// When it ended.
    pub ended_at: Option<Millis>,
    /// Failed attempts, oldest first, the last [`MAX_ERRORS`].
    pub errors: Vec<AttemptError>,
    /// The sequence number of its last event; 0 when there is none.
    pub last_sequence: u64,
    /// W3C trace context of whoever published it; empty when there is none.
    pub traceparent: String,
}

impl Job {
    /// The job that storing `new` begins with.
    #[must_use]
    pub fn begin(new: &NewJob, now: Millis) -> Job {
        Job {
            id: new.id,
            queue: new.queue,
            kind: new.kind.clone(),
            owner: new.owner.clone(),
            idempotency_key: new.idempotency_key.clone(),
            state: State::Waiting,
            attempts: 0,
            max_attempts: new.max_attempts,
            epoch: 0,
            lease_until: None,
            worker: None,
            cancel_requested: false,
            due_at: new.due_at,
            published_at: None,
            created_at: now,
            ended_at: None,
            errors: Vec::new(),
            last_sequence: 0,
            traceparent: new.traceparent.clone(),
        }
    }
}

/// What a watcher sees. Stored as JSON: fields may be added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A piece of output.
    Output {
        /// The piece.
        text: String,
    },
    /// How far the job has come.
    Progress {
        /// What it is doing.
        stage: String,
        /// Done so far.
        done: u64,
        /// To be done in all; 0 when unknown.
        total: u64,
    },
    /// An attempt failed and another follows; output since it began is void.
    Retry {
        /// What failed.
        error: AttemptError,
        /// When the next attempt is due.
        due_at: Millis,
    },
    /// The job ended; as what, the job itself says.
    Ended,
}

/// An event with its place in the job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// Cuts an error message to what is kept, at a character boundary.
#[must_use]
pub fn bounded_message(message: &str) -> String {
    let mut end = message.len().min(MAX_ERROR_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}
