//! How entries look in Redis, and the scripts that change them.
//!
//! An entry is one byte that says what it is, then the value's bytes or the lease's token.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use redis::{Script, Value};

use crate::store::{Lease, StoreError};

const LEASE: u8 = 0;
const VALUE: u8 = 1;

/// Stores under a lease: `KEYS[1]`, placeholder, entry, milliseconds. Answers whether the lease stood.
const FILL: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// Stores unconditionally: deadline, then an entry and its milliseconds for each key. A command that lay in a buffer
/// until its caller gave up must not overwrite what was stored or removed since, so a late one does nothing.
const SET: &str = "
local now = redis.call('TIME')
if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[1]) then return 0 end
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2 * i], 'PX', ARGV[2 * i + 1]) end
return 1";

/// Drops keys as one step. Answers how many held a value.
const REMOVE: &str = "
local values = 0
for _, key in ipairs(KEYS) do
  if redis.call('GETRANGE', key, 0, 0) == '\\1' then values = values + 1 end
  redis.call('UNLINK', key)
end
return values";

/// The scripts, hashed once. A server that lost them is given them again by the call that finds out.
pub(super) struct Scripts {
    pub(super) fill: Script,
    pub(super) set: Script,
    pub(super) remove: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self { fill: Script::new(FILL), set: Script::new(SET), remove: Script::new(REMOVE) }
    }
}

/// What every name of ours begins with, for one run of the server.
pub(super) fn prefix(namespace: &str, run: &str) -> String {
    format!("{namespace}:{run}:")
}

/// What a leased key holds.
pub(super) fn placeholder(lease: Lease) -> [u8; Lease::BYTES + 1] {
    let mut entry = [LEASE; Lease::BYTES + 1];
    entry[1..].copy_from_slice(&lease.0);
    entry
}

/// What a key with a value holds.
pub(super) fn encode(value: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(1 + value.len());
    entry.push(VALUE);
    entry.extend_from_slice(value);
    entry
}

/// The value of an entry; `None` when it is a lease.
pub(super) fn decode(entry: Vec<u8>) -> Result<Option<Bytes>, StoreError> {
    match entry.first() {
        Some(&VALUE) => {
            let mut value = Bytes::from(entry);
            value.advance(1);
            Ok(Some(value))
        }
        Some(&LEASE) => Ok(None),
        _ => Err(StoreError::Refused("an entry of an unknown format is in the cache's namespace".into())),
    }
}

/// Whole milliseconds as Redis takes them, at least 1.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// An answer that the command cannot give.
pub(super) fn unexpected(answer: &Value) -> StoreError {
    StoreError::Refused(format!("unexpected answer: {answer:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_leases_are_told_apart() {
        for value in [&b""[..], b"\0", b"\x01", b"text"] {
            assert_eq!(decode(encode(value)).unwrap().as_deref(), Some(value));
        }
        assert_eq!(decode(placeholder(Lease([7; 16])).to_vec()).unwrap(), None);
    }

    #[test]
    fn foreign_entries_are_refused() {
        assert!(decode(Vec::new()).is_err());
        assert!(decode(b"{json}".to_vec()).is_err());
    }

    #[test]
    fn a_time_to_live_is_never_zero() {
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_secs(3600)), 3_600_000);
    }
}
