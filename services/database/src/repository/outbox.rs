//! The outbox: effects outside the database that a committed write owes, stored with its rows until they have happened.

use std::time::Duration;

use super::{Param, Query, Repository, Row};
use crate::{entities::Micros, error::Error, params};

/// How long the process that wrote an effect has it to itself: after that, any relay may claim it.
pub const HEAD_START: Duration = Duration::from_secs(2);

/// A kind of effect. Each is relayed by itself, so that a queue that is away holds up no invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Effects on the cache.
    Invalidate,
    /// Effects on the queue.
    Publish,
}

impl Kind {
    const fn code(self) -> i64 {
        match self {
            Self::Invalidate => 1,
            Self::Publish => 2,
        }
    }
}

/// A kind of thing that is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// A user.
    User,
    /// A chat.
    Chat,
    /// A model.
    Model,
    /// A document.
    Document,
}

impl Entity {
    /// Its name, which is also the pattern of its cache key.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Chat => "chat",
            Self::Model => "model",
            Self::Document => "document",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::User, Self::Chat, Self::Model, Self::Document].into_iter().find(|entity| entity.name() == name)
    }
}

/// When an effect is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The caller waits for it, for a moment.
    Awaited,
    /// Whenever the relay gets to it.
    Relayed,
}

/// Something that must happen outside of the database. Each may happen more than once: all are idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The cache forgets an entity, and the lists it is in.
    Invalidate {
        /// What kind of thing.
        entity: Entity,
        /// Its id.
        id: String,
    },
    /// A job is published.
    Publish {
        /// On which queue.
        queue: String,
        /// The full name of the payload message.
        r#type: String,
        /// The payload, encoded.
        payload: Vec<u8>,
        /// The job's id: publishing it again changes nothing.
        job_id: String,
        /// Whether the write's caller waits for it.
        urgency: Urgency,
    },
}

impl Effect {
    /// Whether the caller of the write waits for it.
    #[must_use]
    pub const fn urgency(&self) -> Urgency {
        match self {
            Self::Invalidate { .. } => Urgency::Awaited,
            Self::Publish { urgency, .. } => *urgency,
        }
    }
}

/// An effect that a write owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The outbox row.
    pub id: String,
    /// On whose behalf.
    pub owner: String,
    /// What must happen.
    pub effect: Effect,
}

impl Owed {
    pub(super) fn params(&self, now: Micros, traceparent: &str) -> Vec<Param> {
        let due = match self.effect.urgency() {
            Urgency::Awaited => now.plus(HEAD_START),
            Urgency::Relayed => now,
        };
        let none = String::new();
        let (kind, target, subject, r#type, payload) = match &self.effect {
            Effect::Invalidate { entity, id } => (Kind::Invalidate, entity.name(), id, &none, Vec::new()),
            Effect::Publish { queue, r#type, payload, job_id, .. } => {
                (Kind::Publish, queue.as_str(), job_id, r#type, payload.clone())
            }
        };
        params![&self.id, kind.code(), &self.owner, target, subject, r#type, payload, traceparent, now, due]
    }

    fn read(row: &Row) -> Result<Self, Error> {
        let (target, subject) = (row.text("target")?, row.text("subject")?);
        let kind = row.int("kind")?;
        let effect = match [Kind::Invalidate, Kind::Publish].into_iter().find(|known| known.code() == kind) {
            Some(Kind::Invalidate) => {
                let entity = Entity::named(&target);
                let entity =
                    entity.ok_or_else(|| Error::internal(format!("outbox row names entity {target}")))?;
                Effect::Invalidate { entity, id: subject }
            }
            Some(Kind::Publish) => Effect::Publish {
                queue: target,
                r#type: row.text("type")?,
                payload: row.bytes("payload")?,
                job_id: subject,
                urgency: Urgency::Relayed,
            },
            None => return Err(Error::internal(format!("outbox row has kind {kind}"))),
        };
        Ok(Self { id: row.text("id")?, owner: row.text("owner")?, effect })
    }
}

/// An effect claimed from the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The effect.
    pub owed: Owed,
    /// How often it has been claimed, this time included.
    pub attempts: u32,
    /// The trace of the write that owes it; empty when it was not traced.
    pub traceparent: String,
}

/// How much is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxState {
    /// Effects that have not happened yet, as far as is known.
    pub depth: u64,
    /// How long the oldest of them has waited.
    pub oldest_age: Duration,
}

impl Repository {
    /// Whether any effect of a kind is due. Asks only, and so disturbs no writer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_owing(&self, kind: Kind) -> Result<bool, Error> {
        Ok(self.read_one(Query::OutboxDue, params![Micros::now(), kind.code()]).await?.is_some())
    }

    /// Claims effects of a kind that are due, up to a limit, for as long as `lease`: no other relay claims them before that.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_owed(&self, kind: Kind, limit: usize, lease: Duration) -> Result<Vec<Claimed>, Error> {
        let claimed = self.write("", move |work| {
            Box::pin(async move {
                let (now, until) = (work.now, work.now.plus(lease));
                let rows = work.rows(Query::OutboxClaim, params![now, until, limit, kind.code()]).await?;
                let claims = rows.iter().map(|row| {
                    let (attempts, traceparent) = (row.small("attempts")?, row.text("traceparent")?);
                    Ok(Claimed { owed: Owed::read(row)?, attempts, traceparent })
                });
                claims.collect::<Result<Vec<_>, Error>>()
            })
        });
        Ok(claimed.await?.value)
    }

    /// Strikes out effects that have happened.
    ///
    /// # Errors
    /// When the database fails; the effects will then happen again, which changes nothing.
    pub async fn settle_owed(&self, ids: Vec<String>) -> Result<(), Error> {
        let settled = self.write("", move |work| {
            Box::pin(async move { work.execute(Query::OutboxDelete, params![ids]).await.map(drop) })
        });
        settled.await.map(drop)
    }

    /// Puts off an effect that failed.
    ///
    /// # Errors
    /// When the database fails; the effect is then due when its lease ends.
    pub async fn defer_owed(&self, id: String, delay: Duration, error: String) -> Result<(), Error> {
        let deferred = self.write("", move |work| {
            Box::pin(async move {
                let due = work.now.plus(delay);
                work.execute(Query::OutboxDefer, params![id, due, error]).await.map(drop)
            })
        });
        deferred.await.map(drop)
    }

    /// How much is owed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owed(&self) -> Result<OutboxState, Error> {
        let Some(row) = self.read_one(Query::OutboxState, params![]).await? else {
            return Ok(OutboxState::default());
        };
        let oldest_age =
            row.optional_int("oldest")?.map_or(Duration::ZERO, |at| Micros(at).age(Micros::now()));
        Ok(OutboxState { depth: row.small("depth")?, oldest_age })
    }
}
