//! The running service: groups, counters, large answers, and life without Redis.

use weft_proto::cache::v1 as proto;

use crate::{
    fixture::{self, Fixture, item, key},
    remote::RemoteStore,
};
use weft_cache::store::{Lookup, Store as _};

async fn invalidate<G>(
    service: &Fixture<RemoteStore, G>,
    entity: proto::Entity,
    id: &str,
    owner: &str,
) -> Result<Vec<String>, tonic::Status> {
    let request = proto::InvalidateRequest { entity: entity.into(), id: id.into(), owner: owner.into() };
    Ok(service.client().invalidate(request).await?.into_inner().keys)
}

#[tokio::test]
async fn invalidating_an_entity_drops_its_group_and_nothing_else() {
    let service = fixture::grpc_memory().await;
    let all = [
        "user:1",
        "user_list",
        "chat:1",
        "chat_list:ada",
        "chat_list:bob",
        "model:1",
        "model_list",
        "document:1",
        "document_list",
        "document_list:ada",
        "document_list:bob",
        "chat:2",
    ];
    for (entity, owner, group) in [
        (proto::Entity::User, "", &["user:1", "user_list"][..]),
        (proto::Entity::Chat, "ada", &["chat:1", "chat_list:ada"]),
        (proto::Entity::Model, "", &["model:1", "model_list"]),
        (proto::Entity::Document, "ada", &["document:1", "document_list", "document_list:ada"]),
    ] {
        service.set(&all.map(|name| item(name, "x"))).await.unwrap();
        assert_eq!(invalidate(&service, entity, "1", owner).await.unwrap(), group);
        let values = service.get_many(&all.map(key)).await.unwrap();
        for (name, value) in all.iter().zip(values) {
            assert_eq!(value.is_none(), group.contains(name), "{name} after {entity:?}");
        }
    }
}

#[tokio::test]
async fn an_invalidation_refuses_the_fill_of_who_loaded_before_it() {
    let service = fixture::grpc_memory().await;
    let Lookup::Leased(lease) = service.lookup(&key("chat_list:ada")).await.unwrap() else {
        panic!("not free")
    };
    invalidate(&service, proto::Entity::Chat, "7", "ada").await.unwrap();
    assert!(!service.fill(&item("chat_list:ada", "old"), lease).await.unwrap());
    let stats = service.stats().await;
    let lists = stats.patterns.iter().find(|stats| stats.pattern == "chat_list").unwrap();
    assert_eq!((lists.misses, lists.refused_fills, lists.stores, lists.invalidations), (1, 1, 0, 1));
}

#[tokio::test]
async fn counters_are_kept_per_pattern() {
    let service = fixture::grpc_memory().await;
    service
        .set(&[item("user:1", "abc"), item("document_list", "de"), item("document_list:ada", "")])
        .await
        .unwrap();
    service.lookup(&key("user:1")).await.unwrap();
    service.lookup(&key("user:2")).await.unwrap();
    service.lookup(&key("user:2")).await.unwrap();
    service.get_many(&["user:1", "document_list", "model_list"].map(key)).await.unwrap();
    service.remove(&[key("user:1"), key("chat:none")]).await.unwrap();

    let stats = service.stats().await;
    let of = |name: &str| stats.patterns.iter().find(|stats| stats.pattern == name).unwrap().clone();
    let zero = |pattern: &str| proto::PatternStats { pattern: pattern.into(), ..Default::default() };
    let user =
        proto::PatternStats { hits: 2, misses: 1, waits: 1, stores: 1, invalidations: 1, ..zero("user") };
    assert_eq!(of("user"), user);
    assert_eq!(of("document_list"), proto::PatternStats { hits: 1, stores: 2, ..zero("document_list") });
    assert_eq!(of("model_list"), proto::PatternStats { misses: 1, ..zero("model_list") });
    assert_eq!(of("chat"), proto::PatternStats { invalidations: 1, ..zero("chat") });
    assert!(stats.patterns.is_sorted_by_key(|stats| stats.pattern.clone()));
    assert_eq!(stats.patterns.len(), 8);
    assert_eq!((stats.entries, stats.entry_bytes, stats.backend.as_str()), (2, 2, "memory"));
    assert!(stats.store_reachable);
}

#[tokio::test]
async fn an_answer_never_outgrows_what_clients_accept() {
    let service = fixture::grpc_memory().await;
    let names: Vec<_> = (0..6).map(|n| format!("document:{n}")).collect();
    for name in &names {
        service.set(&[item(name, vec![1; 1024 * 1024])]).await.unwrap();
    }
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let values = service.get_many(&keys).await.unwrap();
    assert_eq!(values.iter().filter(|value| value.is_some()).count(), 3);
    assert!(values[..3].iter().all(Option::is_some), "in the order asked");
}

#[cfg(feature = "real-backends")]
mod without_redis {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tonic::Code;
    use weft_mesh::error::CallError;
    use weft_testkit::{Redis, eventually};

    use super::*;
    use crate::fixture::{SOON, redis_config, start};

    async fn ready(admin: std::net::SocketAddr) -> bool {
        let mut connection = TcpStream::connect(admin).await.unwrap();
        connection.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    }

    #[tokio::test]
    async fn values_live_an_hour_less_up_to_a_tenth() {
        let service = crate::fixture::grpc_redis().await;
        let entry = |n| proto::SetRequest { key: format!("user:{n}"), ..Default::default() };
        service
            .client()
            .set_many(proto::SetManyRequest { entries: (0..100).map(entry).collect() })
            .await
            .unwrap();

        let client = redis::Client::open(service.guard.1.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let names: Vec<String> =
            redis::cmd("KEYS").arg("weft:*:user:*").query_async(&mut connection).await.unwrap();
        let mut lives = std::collections::BTreeSet::new();
        for name in &names {
            let seconds: u64 = redis::cmd("TTL").arg(name).query_async(&mut connection).await.unwrap();
            assert!((3200..=3600).contains(&seconds), "{seconds}");
            lives.insert(seconds);
        }
        assert_eq!(names.len(), 100);
        assert!(lives.len() > 50, "they expire at {} different seconds", lives.len());
    }

    /// Redis is stopped before the service starts, then started, stopped and started again.
    #[tokio::test]
    async fn the_service_degrades_and_recovers_without_a_restart() {
        let redis = Redis::start().await.unwrap();
        redis.stop().await.unwrap();
        let running = start(redis_config(redis.url())).await;
        let admin = running.admin;
        let service = Fixture::new(RemoteStore::connect(running.address), running);

        for _ in 0..2 {
            degraded(&service).await;
            eventually(SOON, || async { !ready(admin).await }).await;
            redis.restart().await.unwrap();
            eventually(SOON, || async { ready(admin).await }).await;
            works(&service).await;
            redis.stop().await.unwrap();
            eventually(SOON, || async { !service.stats().await.store_reachable }).await;
        }
    }

    async fn degraded<G>(service: &Fixture<RemoteStore, G>) {
        let before = service.stats().await;
        let mut client = service.client();
        let answer = client.get(proto::GetRequest { key: "user:1".into() }).await.unwrap().into_inner();
        let miss = proto::Miss { lease: bytes::Bytes::new() };
        assert_eq!(answer.result, Some(proto::get_response::Result::Miss(miss)));
        assert_eq!(service.get_many(&[key("user:1"), key("user_list")]).await.unwrap(), [None, None]);

        let lease = vec![0; 16].into();
        let fill = proto::FillRequest { key: "user:1".into(), lease, ..Default::default() };
        let set = proto::SetRequest { key: "user:1".into(), ..Default::default() };
        let failures = [
            client.set(set.clone()).await.unwrap_err(),
            client.set_many(proto::SetManyRequest { entries: vec![set] }).await.unwrap_err(),
            client.fill(fill).await.unwrap_err(),
            client.delete(proto::DeleteRequest { keys: vec!["user:1".into()] }).await.unwrap_err(),
            invalidate(service, proto::Entity::User, "1", "").await.unwrap_err(),
        ];
        for status in failures {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            let error = CallError::from(status);
            assert!(error.reason.starts_with("STORE_"), "{error:?}");
            assert!(error.retry_after.is_some());
        }
        let stats = service.stats().await;
        assert_eq!((stats.backend.as_str(), stats.store_reachable), ("redis", false));
        assert!(stats.store_errors - before.store_errors >= 7, "more when the channel repeated a call");
        let misses = |stats: &proto::GetStatsResponse| stats.patterns.iter().map(|p| p.misses).sum::<u64>();
        assert_eq!(misses(&stats) - misses(&before), 3, "a degraded read is a miss");
    }

    async fn works<G>(service: &Fixture<RemoteStore, G>) {
        let Lookup::Leased(lease) = service.lookup(&key("user:1")).await.unwrap() else { panic!("not free") };
        assert!(service.fill(&item("user:1", "x"), lease).await.unwrap());
        assert!(matches!(service.lookup(&key("user:1")).await.unwrap(), Lookup::Hit(_)));
        assert!(service.stats().await.store_reachable);
        invalidate(service, proto::Entity::User, "1", "").await.unwrap();
        assert!(matches!(service.lookup(&key("user:1")).await.unwrap(), Lookup::Leased(_)));
        service.remove(&[key("user:1")]).await.unwrap();
    }
}
