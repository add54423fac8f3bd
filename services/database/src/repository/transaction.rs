//! Writes: a transaction that collects the effects it owes to the rest of the mesh, and stores them with its rows.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{
    Param, Query, Repository, Row, Session,
    outbox::{Effect, Entity, Owed},
};
use crate::{entities::Micros, error::Error, params};

/// What a write left behind.
#[derive(Clone, Debug)]
pub struct Committed<T> {
    /// Its result.
    pub value: T,
    /// What it owes now; stored in the outbox too.
    pub owed: Vec<Owed>,
}

/// A transaction in progress.
pub struct Transaction<'c> {
    session: &'c mut dyn Session,
    /// The time of everything in it.
    pub now: Micros,
    /// On whose behalf.
    pub owner: String,
    has_cache: bool,
    traceparent: String,
    owed: Vec<Owed>,
}

impl Transaction<'_> {
    /// Runs a query and collects its rows.
    pub(super) async fn rows(&mut self, query: Query, params: Vec<Param>) -> Result<Vec<Row>, Error> {
        self.session.rows(query, params).await
    }

    /// Runs a query for its first row.
    pub(super) async fn one(&mut self, query: Query, params: Vec<Param>) -> Result<Option<Row>, Error> {
        Ok(self.rows(query, params).await?.into_iter().next())
    }

    /// Runs a statement; how many rows it changed.
    pub(super) async fn execute(&mut self, query: Query, params: Vec<Param>) -> Result<u64, Error> {
        self.session.execute(query, params).await
    }

    /// The session, for what only it can do.
    pub(super) fn session(&mut self) -> &mut dyn Session {
        self.session
    }

    /// Makes the owner's user record, if this is the first write under that name.
    pub(super) async fn ensure_user(&mut self) -> Result<(), Error> {
        let owner = self.owner.clone();
        if self.execute(Query::UserEnsure, params![&owner, self.now]).await? == 1 {
            self.owe_invalidation(Entity::User, &owner);
        }
        Ok(())
    }

    /// The cache must forget an entity of the owner's.
    pub(super) fn owe_invalidation(&mut self, entity: Entity, id: &str) {
        if self.has_cache {
            self.owe(Effect::Invalidate { entity, id: id.to_owned() });
        }
    }

    /// Some effect must happen on the owner's behalf.
    pub(super) fn owe(&mut self, effect: Effect) {
        self.owed.push(Owed { id: Uuid::now_v7().to_string(), owner: self.owner.clone(), effect });
    }

    async fn store_owed(&mut self) -> Result<(), Error> {
        for owed in self.owed.clone() {
            let params = owed.params(self.now, &self.traceparent);
            self.execute(Query::OutboxInsert, params).await?;
        }
        Ok(())
    }
}

impl Repository {
    /// Runs a job in a transaction on an owner's behalf, and stores what it owes with it.
    pub(super) async fn write<T, F>(&self, owner: &str, job: F) -> Result<Committed<T>, Error>
    where
        T: Send + 'static,
        F: for<'t, 'c> FnOnce(&'t mut Transaction<'c>) -> BoxFuture<'t, Result<T, Error>> + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&outcome);
        let (owner, has_cache) = (owner.to_owned(), self.has_cache);
        // Here, because the job may run in a task that is not the caller's.
        let traceparent = weft_mesh::trace::traceparent().unwrap_or_default();
        self.engine
            .write(Box::new(move |session| {
                Box::pin(async move {
                    let now = Micros::now();
                    let mut work =
                        Transaction { session, now, owner, has_cache, traceparent, owed: Vec::new() };
                    let value = job(&mut work).await?;
                    work.store_owed().await?;
                    let committed = Committed { value, owed: work.owed };
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(committed);
                    Ok(())
                })
            }))
            .await?;
        let committed = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        committed.ok_or_else(|| Error::internal("a write was acknowledged without a result"))
    }
}
