//! Entries in Redis, shared by every replica of the service.
//!
//! A key of ours is the Redis key `<namespace>:<run>:<key>`, where the run is that of the Redis process: what a
//! restarted or promoted server brings back from a snapshot or a replica may lack removals that were acknowledged, so
//! none of it is ever read again. A lease is a placeholder under the key itself, told from a value by its first byte;
//! a fill is a compare-and-set on it, so that whatever replaces or removes the placeholder refuses the fill.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{RedisResult, Value};
use tracing::Instrument as _;
use weft_balance::Thresholds;

use super::{Item, Lease, Lookup, Store, StoreError, Usage};
use crate::{key::Key, metrics::StoreCalls};

mod link;
mod wire;

pub use link::{Keeper, UrlError, check_url};
use link::{Link, Live};
use wire::Scripts;

/// How to reach Redis and how to use it.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://[user[:password]@]host[:port][/db]`
    pub url: String,
    /// The first part of every Redis key.
    pub namespace: String,
    /// The longest a call may take.
    pub timeout: Duration,
    /// How long a lease stands.
    pub lease: Duration,
    /// The time between probes.
    pub probe_interval: Duration,
    /// Probes in a row that change the reported health.
    pub thresholds: Thresholds,
}

/// The store on Redis 7 or newer, or Valkey.
pub struct RedisStore {
    link: Arc<Link>,
    scripts: Scripts,
    calls: StoreCalls,
    timeout: Duration,
    lease: Duration,
}

impl RedisStore {
    /// The store, which connects to nothing yet, and the keeper of its connection, to be run beside it.
    ///
    /// # Errors
    /// When the URL is not one of a Redis server.
    pub fn open(settings: RedisSettings) -> Result<(Self, Keeper), UrlError> {
        let (timeout, lease) = (settings.timeout, settings.lease);
        let keeper = Keeper::new(settings)?;
        let store = Self {
            link: Arc::clone(keeper.link()),
            scripts: Scripts::default(),
            calls: StoreCalls::new(),
            timeout,
            lease,
        };
        Ok((store, keeper))
    }

    /// Makes one call on the live connection, under the shorter of our deadline and the caller's.
    async fn call<T, F>(
        &self,
        operation: Operation,
        work: impl FnOnce(Arc<Live>, Instant) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let started = Instant::now();
        let budget = weft_mesh::context::remaining(self.timeout);
        let live = self.link.live()?;
        let span = tracing::info_span!(
            "redis",
            otel.name = operation.command,
            otel.kind = "client",
            db.system.name = "redis",
            db.operation.name = operation.command,
            db.stored_procedure.name = operation.script,
        );
        let answer =
            tokio::time::timeout(budget, work(Arc::clone(&live), started + budget).instrument(span)).await;
        let result = match answer {
            Ok(Ok(value)) => {
                self.link.answered();
                Ok(value)
            }
            Ok(Err(error)) => Err(self.link.failed(&live, error)),
            Err(_) => {
                // A caller in a hurry says nothing about Redis.
                if budget >= self.timeout {
                    self.link.silent();
                }
                Err(StoreError::TimedOut)
            }
        };
        self.calls.record(operation.command, operation.script, result.as_ref().err(), started.elapsed());
        result
    }
}

impl Store for RedisStore {
    async fn lookup(&self, key: &Key) -> Result<Lookup, StoreError> {
        let lease = Lease::unique();
        let lookup = |live: Arc<Live>, _| async move {
            let mut command = redis::cmd("SET");
            command.arg(live.name(key)).arg(&wire::placeholder(lease)[..]);
            command.arg("NX").arg("GET").arg("PX").arg(wire::millis(self.lease));
            command.query_async::<Value>(&mut live.connection()).await
        };
        match self.call(Operation::command("SET"), lookup).await? {
            Value::Nil => Ok(Lookup::Leased(lease)),
            Value::BulkString(entry) => {
                wire::decode(entry).map(|value| value.map_or(Lookup::Held, Lookup::Hit))
            }
            other => Err(wire::unexpected(&other)),
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let read = |live: Arc<Live>, _| async move {
            let mut command = redis::cmd("MGET");
            for key in keys {
                command.arg(live.name(key));
            }
            command.query_async::<Vec<Option<Vec<u8>>>>(&mut live.connection()).await
        };
        let entries = self.call(Operation::command("MGET"), read).await?;
        entries.into_iter().map(|entry| entry.map_or(Ok(None), wire::decode)).collect()
    }

    async fn set(&self, items: &[Item]) -> Result<(), StoreError> {
        let mut sent_until = None;
        let store = |live: Arc<Live>, deadline| {
            sent_until = Some(deadline);
            async move {
                let mut set = self.scripts.set.arg(live.server_millis(deadline));
                for item in items {
                    set.key(live.name(&item.key)).arg(wire::encode(&item.value)).arg(wire::millis(item.ttl));
                }
                set.invoke_async::<bool>(&mut live.connection()).await
            }
        };
        let result = match self.call(Operation::script("set"), store).await {
            Ok(true) => return Ok(()),
            Ok(false) => Err(StoreError::TimedOut),
            Err(error) => Err(error),
        };
        // What was sent may still be on its way; once its deadline is over it can no longer take effect.
        if let Some(deadline) = sent_until {
            tokio::time::sleep_until(deadline.into()).await;
        }
        result
    }

    async fn fill(&self, item: &Item, lease: Lease) -> Result<bool, StoreError> {
        let fill = |live: Arc<Live>, _| async move {
            let mut fill = self.scripts.fill.key(live.name(&item.key));
            fill.arg(&wire::placeholder(lease)[..])
                .arg(wire::encode(&item.value))
                .arg(wire::millis(item.ttl));
            fill.invoke_async::<bool>(&mut live.connection()).await
        };
        self.call(Operation::script("fill"), fill).await
    }

    async fn remove(&self, keys: &[Key]) -> Result<u32, StoreError> {
        let remove = |live: Arc<Live>, _| async move {
            let mut remove = self.scripts.remove.prepare_invoke();
            for key in keys {
                remove.key(live.name(key));
            }
            remove.invoke_async::<u32>(&mut live.connection()).await
        };
        self.call(Operation::script("remove"), remove).await
    }

    fn backend(&self) -> &'static str {
        "redis"
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn reachable(&self) -> bool {
        self.link.reachable()
    }
}

/// What a call is called in telemetry.
#[derive(Clone, Copy)]
struct Operation {
    command: &'static str,
    script: Option<&'static str>,
}

impl Operation {
    const fn command(command: &'static str) -> Self {
        Self { command, script: None }
    }

    const fn script(name: &'static str) -> Self {
        Self { command: "EVALSHA", script: Some(name) }
    }
}
