//! What is known of methods' messages, so that they can be written in JSON.

use anyhow::Context as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
    prost::Message as _,
};

/// The contracts whose methods can be called in JSON.
#[derive(Clone, Debug)]
pub(crate) struct Contracts(DescriptorPool);

impl Contracts {
    /// Weft's own, and those of encoded `google.protobuf.FileDescriptorSet`s. A file that an earlier set has too is taken
    /// from that. A set without the files that it imports still says which methods may be repeated, and that is all.
    pub(crate) fn new(sets: &[(&String, Vec<u8>)]) -> anyhow::Result<Self> {
        let mut pool = DescriptorPool::new();
        pool.decode_file_descriptor_set(weft_proto::FILE_DESCRIPTOR_SET).context("Weft's own contracts")?;
        for (file, set) in sets {
            if let Err(error) = pool.decode_file_descriptor_set(set.as_slice()) {
                tracing::warn!(file, %error, "its methods cannot be called in JSON");
            }
        }
        Ok(Self(pool))
    }

    /// The method under a path: `/package.Service/Method`.
    pub(crate) fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        self.0.get_service_by_name(service)?.methods().find(|found| found.name() == method)
    }
}

/// Reads a message that is written in JSON (ProtoJSON). Nothing stands for an empty one.
pub(super) fn from_json(message: MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, String> {
    let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = DynamicMessage::deserialize(message, &mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(read.encode_to_vec())
}

/// Writes a message in JSON.
pub(super) fn to_json(message: MessageDescriptor, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let packed = message.parent_pool().get_message_by_name(ANY).is_some();
    let read = DynamicMessage::decode(message, bytes).map_err(|error| error.to_string())?;
    if packed && !is_shallow(&read, MOST_PACKED) {
        return Err(format!("it has more than {MOST_PACKED} messages packed in one another"));
    }
    serde_json::to_vec(&read).map_err(|error| error.to_string())
}

const ANY: &str = "google.protobuf.Any";
/// How often a message may be packed in another one, and that in a third: each is decoded anew, and no limit of the
/// decoder counts them together.
const MOST_PACKED: usize = 16;

fn is_shallow(message: &DynamicMessage, left: usize) -> bool {
    if message.descriptor().full_name() == ANY {
        let Some(left) = left.checked_sub(1) else { return false };
        return unpacked(message).is_none_or(|inner| is_shallow(&inner, left));
    }
    message.fields().all(|(_, value)| is_shallow_value(value, left))
}

fn is_shallow_value(value: &Value, left: usize) -> bool {
    match value {
        Value::Message(message) => is_shallow(message, left),
        Value::List(values) => values.iter().all(|value| is_shallow_value(value, left)),
        Value::Map(values) => values.values().all(|value| is_shallow_value(value, left)),
        _ => true,
    }
}

/// What an `Any` holds, if it is known.
fn unpacked(any: &DynamicMessage) -> Option<DynamicMessage> {
    let (url, bytes) = (any.get_field_by_number(1)?, any.get_field_by_number(2)?);
    let name = url.as_str()?.rsplit('/').next()?;
    let inner = any.descriptor().parent_pool().get_message_by_name(name)?;
    DynamicMessage::decode(inner, bytes.as_bytes()?.clone()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages() -> [MessageDescriptor; 2] {
        let contracts = Contracts::new(&[]).unwrap();
        let method = contracts.method("/weft.cache.v1.CacheService/SetMany").unwrap();
        [method.input(), method.output()]
    }

    #[test]
    fn methods_are_found_by_their_path() {
        let contracts = Contracts::new(&[(&"own".into(), weft_proto::FILE_DESCRIPTOR_SET.to_vec())]).unwrap();
        assert!(contracts.method("/weft.cache.v1.CacheService/GetStats").is_some());
        for nothing in
            ["/weft.cache.v1.CacheService/", "/weft.cache.v1.CacheService/getStats", "/x/y", "", "/"]
        {
            assert!(contracts.method(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let [input, _] = messages();
        let problem = from_json(input.clone(), br#"{"entires": []}"#).unwrap_err();
        assert!(problem.contains("entires"), "{problem}");
        assert!(from_json(input.clone(), b"{} x").is_err());
        assert!(from_json(input.clone(), b"[").is_err());
        assert_eq!(from_json(input, b" ").unwrap(), b"");
    }

    /// A process cannot catch the overflow of its stack.
    #[test]
    fn messages_that_are_packed_too_deep_are_not_written() {
        use prost_types::field_descriptor_proto::{Label, Type};
        let field = |name: &str, number, kind: Type| prost_types::FieldDescriptorProto {
            name: Some(name.into()),
            number: Some(number),
            r#type: Some(kind.into()),
            label: Some(Label::Optional.into()),
            ..Default::default()
        };
        let message = prost_types::DescriptorProto {
            name: Some("Any".into()),
            field: vec![field("type_url", 1, Type::String), field("value", 2, Type::Bytes)],
            ..Default::default()
        };
        let leaf = prost_types::DescriptorProto { name: Some("Leaf".into()), ..Default::default() };
        let file = prost_types::FileDescriptorProto {
            name: Some("google/protobuf/any.proto".into()),
            package: Some("google.protobuf".into()),
            syntax: Some("proto3".into()),
            message_type: vec![message, leaf],
            ..Default::default()
        };
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_proto(file).unwrap();
        let any = pool.get_message_by_name(ANY).unwrap();
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |value, packed| {
                let name = if packed == 0 { "google.protobuf.Leaf" } else { ANY };
                prost_types::Any { type_url: format!("x/{name}"), value }.encode_to_vec()
            })
        };
        to_json(any.clone(), &nested(3)).unwrap();
        for depth in [MOST_PACKED + 2, 500] {
            let problem = to_json(any.clone(), &nested(depth)).unwrap_err();
            assert!(problem.contains("packed"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn any_json_is_read_or_refused(json in "[\\[\\]{}\",:a-z0-9 .eE+-]{0,64}") {
            let _ = from_json(messages()[0].clone(), json.as_bytes());
        }

        #[test]
        fn any_bytes_are_written_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = to_json(messages()[0].clone(), &bytes);
        }
    }
}
