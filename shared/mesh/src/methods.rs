//! What contracts say of their methods: whether they may be repeated, whether they stream.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;

/// What a contract says of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// `idempotency_level` is NO_SIDE_EFFECTS or IDEMPOTENT: it may be repeated after it may have been executed.
    pub idempotent: bool,
    /// Either side is a stream.
    pub streaming: bool,
}

/// Methods by path: `/package.Service/Method`.
#[derive(Clone, Debug, Default)]
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

    /// Adds those of another set; for a path in both, what it says there counts.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
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
}
