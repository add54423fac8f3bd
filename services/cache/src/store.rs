//! The seam between the cache's rules and where its entries are kept.

use std::{future::Future, time::Duration};

use bytes::Bytes;

use crate::key::Key;

pub mod memory;
pub mod redis;

pub use memory::MemoryStore;
pub use redis::RedisStore;

/// Keeps entries and leases under keys.
///
/// A key holds nothing, a value until its time to live is over, or a lease until it ends. The contract, sentence by
/// sentence; the conformance suite has a test for each number:
///
/// 1. A lookup of a key that holds nothing leases it: the answer is a lease that no other lookup was ever given.
/// 2. While the lease stands, every other lookup of the key answers that it is held.
/// 3. A lookup of a key that holds a value answers the bytes as they were stored, the empty value included.
/// 4. A fill under a lease that stands stores its value and ends the lease.
/// 5. A fill under any other lease stores nothing, says so, and ends no lease.
/// 6. A set stores its values whatever the keys hold, and so ends their leases; the last of equal keys wins.
/// 7. A removal drops the values and ends the leases of its keys, and answers how many different keys held a value.
/// 8. A removal is one step: who sees one of its keys dropped sees none of the others as it was before.
/// 9. A lease ends by itself after the store's lease time, and the next lookup leases the key anew.
/// 10. A value is gone when its time to live is over.
/// 11. `get_many` answers for each key in the order asked, equal keys and leased keys included, and leases nothing.
/// 12. Of any number of concurrent lookups of a key that holds nothing, exactly one is given the lease.
/// 13. A value of the size limit under a key of the greatest length is kept like any other.
/// 14. A set that failed does not take effect after its caller has been told.
/// 15. While the backend is away every call fails within its deadline; after its return calls succeed by themselves.
/// 16. A value that could not be removed while the backend was away is dropped by the removal's repetition.
/// 17. A backend that comes back with older contents answers none of them.
///
/// A store may forget a value or a lease at any time. Every method is cancellation safe in the sense that a dropped
/// call has either happened or not; a lease whose answer was dropped ends by itself.
pub trait Store: Send + Sync + 'static {
    /// Reads a key, and leases it if it holds nothing.
    fn lookup(&self, key: &Key) -> impl Future<Output = Result<Lookup, StoreError>> + Send;

    /// Reads keys in one round trip.
    fn get_many(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<Option<Bytes>>, StoreError>> + Send;

    /// Stores values in one round trip.
    fn set(&self, items: &[Item]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores a value under a lease, and answers whether it did.
    fn fill(&self, item: &Item, lease: Lease) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Drops keys in one round trip, and answers how many of them held a value.
    fn remove(&self, keys: &[Key]) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// What it is: `memory` or `redis`.
    fn backend(&self) -> &'static str;

    /// What is held in this process.
    fn usage(&self) -> Usage;

    /// Whether the backend answered the last call or probe.
    fn reachable(&self) -> bool;
}

/// What a key held when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A value.
    Hit(Bytes),
    /// Nothing; now it holds this lease, which is the caller's.
    Leased(Lease),
    /// Another caller's lease.
    Held,
}

/// The right to fill a key, told from every other by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(pub [u8; Self::BYTES]);

impl Lease {
    /// The length of a token.
    pub const BYTES: usize = 16;

    /// A lease like no other.
    #[must_use]
    pub fn unique() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }
}

/// A value to store.
#[derive(Clone, Debug)]
pub struct Item {
    /// Under which key.
    pub key: Key,
    /// The bytes.
    pub value: Bytes,
    /// For how long exactly; jitter is already off.
    pub ttl: Duration,
}

/// What a store holds in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Values.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A call that did not get its answer. What was asked for may have happened or not, but see sentence 14.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, or it broke during the call.
    #[error("the cache store cannot be reached")]
    Unreachable(#[source] Cause),
    /// No answer within the deadline.
    #[error("the cache store did not answer in time")]
    TimedOut,
    /// The backend answered that it will not: out of memory, not permitted, not writable.
    #[error("the cache store refused the call")]
    Refused(#[source] Cause),
}

/// What a backend says of its failure.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
