//! What contracts say of their methods: whether they may be repeated, whether they stream, who may call them.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
pub use weft_proto::common::v1::Access;

/// What a contract says of a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// `idempotency_level` is NO_SIDE_EFFECTS or IDEMPOTENT: it may be repeated after it may have been executed.
    pub idempotent: bool,
    /// It is NO_SIDE_EFFECTS: it changes nothing.
    pub safe: bool,
    /// Either side is a stream.
    pub streaming: bool,
    /// Who may call it, where callers are authenticated.
    pub access: Access,
    /// 0 for one that no contract has, else its place in [`Methods::names`], from 1.
    id: u16,
}

impl Method {
    /// What no contract has, but is known otherwise.
    #[must_use]
    pub const fn unknown(idempotent: bool) -> Self {
        Self { idempotent, safe: false, streaming: false, access: Access::Unspecified, id: 0 }
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
        let set = descriptor::Set::decode(bytes)?;
        let mut methods = Self::default();
        for file in &set.files {
            for service in &file.services {
                for method in &service.methods {
                    let path = format!("/{}.{}/{}", file.package, service.name, method.name);
                    let options = method.options.unwrap_or_default();
                    let known = Method {
                        idempotent: options.idempotency_level != 0,
                        safe: options.idempotency_level == 1,
                        streaming: method.client_streaming || method.server_streaming,
                        access: Access::try_from(options.access).unwrap_or_default(),
                        id: 0,
                    };
                    methods.insert(path, known);
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
    pub fn names(&self) -> impl Iterator<Item = &str> {
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

/// What is read of `google/protobuf/descriptor.proto`. prost's own types do not hold options that others declare.
mod descriptor {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Set {
        #[prost(message, repeated, tag = "1")]
        pub(super) files: Vec<File>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct File {
        #[prost(string, tag = "2")]
        pub(super) package: String,
        #[prost(message, repeated, tag = "6")]
        pub(super) services: Vec<Service>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Service {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) methods: Vec<Method>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Method {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, optional, tag = "4")]
        pub(super) options: Option<Options>,
        #[prost(bool, tag = "5")]
        pub(super) client_streaming: bool,
        #[prost(bool, tag = "6")]
        pub(super) server_streaming: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Message)]
    pub(super) struct Options {
        #[prost(int32, tag = "34")]
        pub(super) idempotency_level: i32,
        /// `weft.common.v1.access`
        #[prost(int32, tag = "50001")]
        pub(super) access: i32,
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

    #[test]
    fn every_method_says_who_may_call_it() {
        let methods = Methods::weft();
        let access = |path: &str| methods.get(path).access;
        assert_eq!(access("/weft.database.v1.ChatService/GetChat"), Access::User);
        assert_eq!(access("/weft.cache.v1.CacheService/Get"), Access::Operator);
        let silent = |path: &&str| access(&format!("/{path}")) == Access::Unspecified;
        assert_eq!(methods.names().filter(silent).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
