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
    /// 0 for one that no contract has, else its place in [`Methods::names`], from 1.
    id: u16,
}

impl Method {
    /// What no contract has, but is known otherwise.
    #[must_use]
    pub const fn unknown(idempotent: bool) -> Self {
        Self { idempotent, streaming: false, id: 0 }
    }

    /// Whether a contract has it.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.id != 0
    }

    pub(crate) const fn id(self) -> usize {
        self.id as usize
    }
}

/// Methods by path: `/package.Service/Method`.
#[derive(Clone, Debug, Default)]
pub struct Methods {
    by_path: HashMap<String, Method>,
    /// Without the slash before them.
    names: Vec<String>,
}

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
        let mut methods = Self::default();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let level =
                        method.options.as_ref().map_or(0, |options| options.idempotency_level() as i32);
                    let streaming = method.client_streaming() || method.server_streaming();
                    methods.insert(path, Method { idempotent: level != 0, streaming, id: 0 });
                }
            }
        }
        Ok(methods)
    }

    /// Adds those of another set; for a path in both, what it says there counts.
    pub fn extend(&mut self, other: Self) {
        for (path, method) in other.by_path {
            self.insert(path, method);
        }
    }

    fn insert(&mut self, path: String, method: Method) {
        let known = self.by_path.get(&path).map(|known| known.id);
        let id = known.unwrap_or_else(|| {
            self.names.push(path.trim_start_matches('/').to_owned());
            // Whoever has more methods than that sees the rest as `other`.
            u16::try_from(self.names.len()).unwrap_or(0)
        });
        self.by_path.insert(path, Method { id, ..method });
    }

    /// Their names, `package.Service/Method`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a path is known.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// What is known of a path; nothing is assumed of an unknown one.
    #[must_use]
    pub fn get(&self, path: &str) -> Method {
        self.by_path.get(path).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_say_what_may_be_repeated() {
        let methods = Methods::weft();
        let get = methods.get("/weft.cache.v1.CacheService/GetStats");
        assert_eq!((get.idempotent, get.streaming), (true, false));
        assert_eq!(methods.names().nth(get.id() - 1), Some("weft.cache.v1.CacheService/GetStats"));
        let watch = methods.get("/weft.queue.v1.QueueService/WatchJob");
        assert_eq!((watch.idempotent, watch.streaming), (true, true));
        assert!(!methods.get("/weft.database.v1.UserService/CreateUser").idempotent);
        assert_eq!(methods.get("/someone.Else/Call"), Method::default());
    }
}
