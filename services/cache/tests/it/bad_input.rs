//! Every way a request can be wrong: the answer names the field, and nothing is stored.

use prost_types::Duration;
use tonic::{Code, Status};
use weft_mesh::error::CallError;
use weft_proto::cache::v1::{self as proto, get_response};
use weft_runtime::Running;

use crate::{
    fixture::{self, Fixture},
    remote::RemoteStore,
};

type Service = Fixture<RemoteStore, Running>;

/// What is wrong with a key: the text, and a part of the problem told.
const BAD_KEYS: [(&str, &str); 9] = [
    ("", "no known pattern"),
    ("session:1", "no known pattern, it is \"session\""),
    ("user", "needs an id"),
    ("user:", "is empty"),
    ("chat_list", "needs an id: `chat_list:{id}`"),
    ("user_list:1", "takes no id"),
    ("user:a b", "not printable ASCII"),
    ("user:\u{0}", "not printable ASCII"),
    ("chat:\u{7f}", "not printable ASCII"),
];

fn set(key: &str, value: usize, ttl: Option<(i64, i32)>) -> proto::SetRequest {
    let ttl = ttl.map(|(seconds, nanos)| Duration { seconds, nanos });
    proto::SetRequest { key: key.to_owned(), value: vec![0; value].into(), ttl }
}

/// Checks that a call was refused for these fields, each with this in its description.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Status>, expected: &[(&str, &str)]) {
    let status = result.expect_err("it must be refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let error = CallError::from(status);
    assert_eq!(error.reason, "INVALID_FIELD");
    let fields: Vec<_> = error.fields.iter().map(|violation| violation.field.as_str()).collect();
    assert!(fields.iter().eq(expected.iter().map(|(field, _)| field)), "{:?}", error.fields);
    for (violation, (_, part)) in error.fields.iter().zip(expected) {
        assert!(violation.description.contains(part), "{violation:?} says nothing of {part:?}");
        assert!(violation.description.len() < 400);
    }
}

async fn nothing_was_stored(service: &Service) {
    let stats = service.stats().await;
    assert_eq!((stats.entries, stats.entry_bytes), (0, 0));
    assert!(stats.patterns.iter().all(|stats| stats.stores == 0));
}

#[tokio::test]
async fn keys_are_refused_by_every_method() {
    let service = fixture::grpc_memory().await;
    let mut client = service.client();
    let too_long = format!("user:{}", "x".repeat(257));
    let bad_keys = BAD_KEYS.iter().copied().chain([(too_long.as_str(), "has 257 bytes; 1 to 256")]);
    for (bad, problem) in bad_keys {
        let name = bad.to_owned();
        refused(client.get(proto::GetRequest { key: name.clone() }).await, &[("key", problem)]);
        refused(client.set(set(bad, 1, None)).await, &[("key", problem)]);
        let keys = vec!["user:1".to_owned(), name.clone()];
        refused(client.get_many(proto::GetManyRequest { keys: keys.clone() }).await, &[("keys[1]", problem)]);
        refused(client.delete(proto::DeleteRequest { keys }).await, &[("keys[1]", problem)]);
        let entries = vec![set("user:1", 1, None), set(bad, 1, None)];
        refused(client.set_many(proto::SetManyRequest { entries }).await, &[("entries[1].key", problem)]);
        let fill = proto::FillRequest { key: name, lease: vec![0; 16].into(), ..Default::default() };
        refused(client.fill(fill).await, &[("key", problem)]);
    }
    nothing_was_stored(&service).await;
}

#[tokio::test]
async fn times_to_live_are_refused() {
    let service = fixture::grpc_memory().await;
    let mut client = service.client();
    let month = 30 * 24 * 3600;
    for (ttl, problem) in [
        ((0, 0), "at least 1s"),
        ((0, 999_999_999), "at least 1s"),
        ((-1, 0), "at least 1s, is -1s"),
        ((-3600, -5), "at least 1s"),
        ((i64::MIN, 0), "at least 1s"),
        ((month, 1), "at most 30 days"),
        ((315_576_000_000, 0), "at most 30 days"),
        ((i64::MAX, 999_999_999), "at most 30 days"),
        ((60, 1_000_000_000), "is no duration"),
        ((i64::MAX, i32::MAX), "is no duration"),
        ((60, -1), "at least 1s"),
        ((i64::MIN, i32::MIN), "at least 1s"),
    ] {
        refused(client.set(set("user:1", 1, Some(ttl))).await, &[("ttl", problem)]);
        let entries = vec![set("user:1", 1, None), set("user:2", 1, Some(ttl))];
        refused(client.set_many(proto::SetManyRequest { entries }).await, &[("entries[1].ttl", problem)]);
        let ttl = Some(Duration { seconds: ttl.0, nanos: ttl.1 });
        let fill =
            proto::FillRequest { key: "user:1".into(), lease: vec![0; 16].into(), ttl, ..Default::default() };
        refused(client.fill(fill).await, &[("ttl", problem)]);
    }
    nothing_was_stored(&service).await;
    for ttl in [None, Some((1, 0)), Some((month, 0))] {
        client.set(set("user:1", 1, ttl)).await.unwrap();
    }
}

#[tokio::test]
async fn large_values_and_long_or_empty_lists_are_refused() {
    let service = fixture::grpc_memory().await;
    let mut client = service.client();
    let limit = fixture::config().max_value_bytes;
    let over = ("value", "has 1048577 bytes; at most 1048576");
    refused(client.set(set("user:1", limit + 1, None)).await, &[over]);
    let entries = vec![set("user:1", limit + 1, None), set("user:2", limit, None)];
    refused(client.set_many(proto::SetManyRequest { entries }).await, &[("entries[0].value", over.1)]);
    let fill = proto::FillRequest {
        key: "user:1".into(),
        lease: vec![0; 16].into(),
        value: vec![0; limit + 1].into(),
        ttl: None,
    };
    refused(client.fill(fill).await, &[over]);

    for (count, problem) in [(0, "has 0 elements; 1 to 256"), (257, "has 257 elements; 1 to 256")] {
        let keys: Vec<_> = (0..count).map(|n| format!("user:{n}")).collect();
        let entries = keys.iter().map(|key| set(key, 1, None)).collect();
        refused(client.get_many(proto::GetManyRequest { keys: keys.clone() }).await, &[("keys", problem)]);
        refused(client.delete(proto::DeleteRequest { keys }).await, &[("keys", problem)]);
        refused(client.set_many(proto::SetManyRequest { entries }).await, &[("entries", problem)]);
    }
    nothing_was_stored(&service).await;
}

#[tokio::test]
async fn leases_that_no_miss_gave_are_refused() {
    let service = fixture::grpc_memory().await;
    let mut client = service.client();
    for bytes in [0, 1, 15, 17, 4096] {
        let lease = vec![7; bytes].into();
        let fill = proto::FillRequest { key: "user:1".into(), lease, value: "x".into(), ttl: None };
        refused(client.fill(fill).await, &[("lease", "a miss gives one of 16")]);
    }
    let guessed =
        proto::FillRequest { key: "user:1".into(), lease: vec![7; 16].into(), ..Default::default() };
    assert!(!client.fill(guessed).await.unwrap().into_inner().stored);
    let stats = service.stats().await;
    assert_eq!(stats.entries, 0);
}

#[tokio::test]
async fn invalidations_of_nothing_known_are_refused() {
    let service = fixture::grpc_memory().await;
    let mut client = service.client();
    client.set(set("chat_list:ada", 1, None)).await.unwrap();
    let (user, chat, document) = (proto::Entity::User, proto::Entity::Chat, proto::Entity::Document);
    for (entity, id, owner, field, problem) in [
        (proto::Entity::Unspecified as i32, "1", "ada", "entity", "must be a user"),
        (99, "1", "ada", "entity", "must be a user"),
        (user as i32, "", "", "id", "is empty"),
        (user as i32, "a\nb", "", "id", "not printable ASCII"),
        (chat as i32, "1", "", "owner", "is empty"),
        (document as i32, "1", "a b", "owner", "not printable ASCII"),
    ] {
        let request = proto::InvalidateRequest { entity, id: id.into(), owner: owner.into() };
        refused(client.invalidate(request).await, &[(field, problem)]);
    }
    let stats = service.stats().await;
    assert_eq!(stats.entries, 1, "nothing was dropped");
    assert!(stats.patterns.iter().all(|stats| stats.invalidations == 0));
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let service = fixture::grpc_memory().await;
    let mut client = service.client();
    let limit = fixture::config().max_value_bytes;
    let entries = vec![set("nope:1", limit + 1, Some((0, 0))), set("user:1", 1, None), set("user:", 1, None)];
    let result = client.set_many(proto::SetManyRequest { entries }).await;
    refused(
        result,
        &[
            ("entries[0].key", "no known pattern"),
            ("entries[0].value", "at most"),
            ("entries[0].ttl", "at least 1s"),
            ("entries[2].key", "is empty"),
        ],
    );
    let key = proto::GetRequest { key: "user:1".to_owned() };
    let answer = client.get(key).await.unwrap().into_inner().result;
    assert!(
        matches!(answer, Some(get_response::Result::Miss(_))),
        "the right one among them was not stored either"
    );
}
