//! When a call may be sent again: what the contracts say, a budget, and a jittered wait.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use prost::Message as _;
use tower::retry::budget::{Budget as _, TpsBudget};

/// What a contract says of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// `idempotency_level` is NO_SIDE_EFFECTS or IDEMPOTENT: it may be repeated after it may have been executed.
    pub idempotent: bool,
    /// Either side is a stream.
    pub streaming: bool,
}

/// Methods by path: `/package.Service/Method`.
#[derive(Debug, Default)]
pub struct Methods(HashMap<String, Method>);

impl Methods {
    /// The methods of Weft's own contracts.
    #[must_use]
    pub fn weft() -> &'static Self {
        static METHODS: LazyLock<Methods> = LazyLock::new(|| {
            Methods::from_descriptor_set(weft_proto::FILE_DESCRIPTOR_SET).unwrap_or_default()
        });
        &METHODS
    }

    /// Reads an encoded `google.protobuf.FileDescriptorSet`.
    ///
    /// # Errors
    /// When the bytes are not one.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, prost::DecodeError> {
        let set = prost_types::FileDescriptorSet::decode(bytes)?;
        let mut methods = HashMap::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let level =
                        method.options.as_ref().map_or(0, |options| options.idempotency_level() as i32);
                    let streaming = method.client_streaming() || method.server_streaming();
                    methods.insert(path, Method { idempotent: level != 0, streaming });
                }
            }
        }
        Ok(Self(methods))
    }

    /// Whether a path is known.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// What is known of a path; nothing is assumed of an unknown one.
    #[must_use]
    pub fn get(&self, path: &str) -> Method {
        self.0.get(path).copied().unwrap_or_default()
    }
}

/// How many repeated calls a channel may add: a fifth of its calls, and 3 per second in any case.
#[derive(Clone, Debug)]
pub struct Budget(Arc<TpsBudget>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(TpsBudget::new(Duration::from_secs(10), 3, 0.2)))
    }
}

impl Budget {
    /// Notes a first attempt.
    pub fn deposit(&self) {
        self.0.deposit();
    }

    /// Asks for a repetition.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

/// How long to wait before repetition `attempt` (from 1): full jitter over 25 ms doubled each time, at most 250 ms
/// ("Exponential Backoff And Jitter", AWS architecture blog, 2015).
#[must_use]
pub fn backoff(attempt: u32) -> Duration {
    let cap = 25_u64.saturating_mul(1 << attempt.saturating_sub(1).min(4)).min(250);
    Duration::from_millis(fastrand::u64(0..=cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_say_what_may_be_repeated() {
        let methods = Methods::weft();
        let get = methods.get("/weft.cache.v1.CacheService/GetStats");
        assert_eq!(get, Method { idempotent: true, streaming: false });
        let watch = methods.get("/weft.queue.v1.QueueService/WatchJob");
        assert_eq!(watch, Method { idempotent: true, streaming: true });
        assert!(!methods.get("/weft.database.v1.UserService/CreateUser").idempotent);
        assert_eq!(methods.get("/someone.Else/Call"), Method::default());
    }

    #[test]
    fn the_budget_ends() {
        let budget = Budget::default();
        for _ in 0..100 {
            budget.deposit();
        }
        let granted = (0..1000).filter(|_| budget.withdraw()).count();
        assert!((20..=60).contains(&granted), "{granted}");
    }

    #[test]
    fn waits_are_bounded() {
        assert!((0..100).all(|attempt| backoff(attempt) <= Duration::from_millis(250)));
    }
}
