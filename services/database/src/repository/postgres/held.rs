//! A pooled connection that is closed, not reused, when what it was doing broke off.

use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::{PgConnection, pool::PoolConnection};

use super::{
    failure::{failed, is_broken},
    supervisor::Supervisor,
};
use crate::error::Error;

pub(super) struct Held {
    /// Until it is dropped.
    connection: Option<PoolConnection<sqlx::Postgres>>,
    /// A transaction is open on it.
    in_transaction: bool,
    /// A statement is running on it, or left it in a state nobody knows.
    busy: bool,
    supervisor: Arc<Supervisor>,
}

impl Held {
    pub(super) const fn new(connection: PoolConnection<sqlx::Postgres>, supervisor: Arc<Supervisor>) -> Self {
        Self { connection: Some(connection), in_transaction: false, busy: false, supervisor }
    }

    /// Runs something on the connection. When the future is dropped half-way, or the connection breaks, it is closed.
    pub(super) async fn run<T>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
        doing: &str,
    ) -> Result<T, Error> {
        let Some(connection) = self.connection.as_mut() else {
            return Err(Error::internal("a connection was given back and used again"));
        };
        self.busy = true;
        let result = work(&mut *connection).await;
        match result {
            Ok(value) => {
                self.busy = false;
                Ok(value)
            }
            Err(error) => {
                self.busy = is_broken(&error);
                if self.busy {
                    self.supervisor.broke();
                }
                Err(failed(doing, error))
            }
        }
    }

    /// Says whether a transaction is open: one that is when the connection is dropped must not be reused.
    pub(super) const fn in_transaction(&mut self, open: bool) {
        self.in_transaction = open;
    }

    /// Whether another statement can run on it.
    pub(super) const fn is_usable(&self) -> bool {
        !self.busy
    }

    /// Who is told when it breaks.
    pub(super) fn supervisor(&self) -> Arc<Supervisor> {
        Arc::clone(&self.supervisor)
    }

    /// Closes the connection when it is dropped.
    pub(super) const fn retire(&mut self) {
        self.busy = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && (self.busy || self.in_transaction)
        {
            // Closes the socket without a word: the server rolls back whatever was open.
            drop(connection.detach());
        }
    }
}
