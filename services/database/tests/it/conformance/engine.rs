//! Sentences 1 to 9: transactions, connections, queries.

use std::time::{Duration, Instant};

use futures::future::join_all;
use weft_database::{
    entities::Micros,
    error::Error,
    page::Position,
    params,
    repository::{Query, chats::NewChat},
};
use weft_mesh::context::{self, Context};

use super::on_every_engine;
use crate::fixture::{CONNECTIONS, Fixture, page};

on_every_engine! {
    c01_a_failed_write_stores_nothing,
    c02_a_write_is_seen_once_acknowledged,
    c03_concurrent_changes_of_a_row_add_up,
    c04_an_abandoned_write_is_whole_or_not_at_all,
    c05_migrations_run_once,
    c06_waiting_ends_with_the_deadline,
    c07_many_callers_share_few_connections,
    c08_every_query_is_counted_and_explained,
    c09_texts_come_back_as_they_were,
}

async fn c01_a_failed_write_stores_nothing(fixture: &Fixture) {
    let failed = fixture.engine().write(Box::new(|session| {
        Box::pin(async move {
            session.execute(Query::UserCreate, params!["ada", "Ada", Micros::now()]).await?;
            Err(Error::not_found("chat", "x"))
        })
    }));
    assert!(matches!(failed.await, Err(Error::NotFound { .. })));
    assert_eq!(fixture.repository.user("ada").await.unwrap(), None);

    // A statement that the database refuses takes its transaction with it too, and nothing else.
    let refused = fixture.engine().write(Box::new(|session| {
        Box::pin(async move {
            session.execute(Query::UserCreate, params!["ada", "Ada", Micros::now()]).await?;
            let chat = params!["c", "nobody", "", Micros::now(), Option::<String>::None, ""];
            session.execute(Query::ChatCreate, chat).await.map(drop)
        })
    }));
    assert!(matches!(refused.await, Err(Error::Internal { .. })));
    assert_eq!(fixture.repository.user("ada").await.unwrap(), None);
    fixture.repository.create_user("ada".into(), String::new()).await.unwrap();
}

async fn c02_a_write_is_seen_once_acknowledged(fixture: &Fixture) {
    let writers = (0..50).map(|n| async move {
        let id = format!("user-{n}");
        fixture.repository.create_user(id.clone(), String::new()).await.unwrap();
        assert!(fixture.repository.user(&id).await.unwrap().is_some(), "{id}");
    });
    join_all(writers).await;
}

async fn c03_concurrent_changes_of_a_row_add_up(fixture: &Fixture) {
    let chat = fixture.chat("ada").await;
    let posts = (0..20).map(|n| fixture.repository.post_message("ada", chat.clone(), n.to_string(), None));
    let sequences: Vec<_> =
        join_all(posts).await.into_iter().map(|post| post.unwrap().value.sequence).collect();
    let mut sorted = sequences.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=20).collect::<Vec<_>>());
    assert_eq!(fixture.repository.chat(&chat).await.unwrap().unwrap().message_count, 20);
}

async fn c04_an_abandoned_write_is_whole_or_not_at_all(fixture: &Fixture) {
    for n in 0..60_u64 {
        let pair = fixture.engine().write(Box::new(move |session| {
            Box::pin(async move {
                for half in ["a", "b"] {
                    session
                        .execute(Query::UserCreate, params![format!("{half}-{n}"), "", Micros::now()])
                        .await?;
                }
                Ok(())
            })
        }));
        // Abandoned somewhere between its beginning and its end.
        drop(tokio::time::timeout(Duration::from_micros(n * 40), pair).await);
    }
    // A write that comes after them all: whatever ran has ended when this one has.
    fixture.repository.create_user("last".into(), String::new()).await.unwrap();
    let list = async || {
        let all = fixture.repository.list_users(&page(1000, Position::lowest())).await.unwrap().rows;
        all.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    let whole = |ids: &[String]| {
        let half = |name: &str| {
            let of: Vec<_> = ids.iter().filter_map(|id| id.strip_prefix(name)).map(str::to_owned).collect();
            of
        };
        half("a-") == half("b-")
    };
    weft_testkit::eventually(crate::fixture::SLOW, || async { whole(&list().await) }).await;
}

async fn c05_migrations_run_once(fixture: &Fixture) {
    let before = fixture.repository.create_user("ada".into(), String::new()).await.unwrap().value;
    let others = join_all((0..4).map(|_| fixture.again())).await;
    for other in others {
        assert_eq!(other.repository.user("ada").await.unwrap().as_ref(), Some(&before));
    }
}

async fn c06_waiting_ends_with_the_deadline(fixture: &Fixture) {
    let fixture = fixture.impatient().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(fixture.engine().reader().await.unwrap());
    }
    // It would be another error after the longer limit for a connection.
    let soon = Context::acting_for("ada").until(Instant::now() + Duration::from_millis(50));
    let late = context::scope(soon, fixture.repository.user("ada")).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded)), "{late:?}");

    let patient = fixture.repository.user("ada").await;
    assert!(matches!(patient, Err(Error::PoolExhausted)), "{patient:?}");
    assert_eq!(fixture.engine().pool().timeouts, 1);
    assert_eq!(fixture.engine().pool().waiting, 0);
    drop(held);
    assert_eq!(fixture.repository.user("ada").await.unwrap(), None);
}

async fn c07_many_callers_share_few_connections(fixture: &Fixture) {
    fixture.repository.create_user("ada".into(), String::new()).await.unwrap();
    let calls = (0..300).map(|n| async move {
        let chat = fixture.repository.create_chat("ada", NewChat::default()).await.unwrap().value;
        fixture.repository.post_message("ada", chat.id.clone(), n.to_string(), None).await.unwrap();
        fixture
            .repository
            .list_messages("ada", &chat.id, &page(10, Position::highest()))
            .await
            .unwrap()
            .rows
            .len()
    });
    assert!(join_all(calls).await.into_iter().all(|count| count == 1));
    let pool = fixture.engine().pool();
    assert!(pool.open <= pool.max && pool.max <= CONNECTIONS + 1, "{pool:?}");
}

async fn c08_every_query_is_counted_and_explained(fixture: &Fixture) {
    let dialect = fixture.engine().dialect();
    for query in Query::ALL.iter().filter(|query| query.sql(dialect).is_some()) {
        let plan = fixture.engine().explain(*query).await;
        let plan = plan.unwrap_or_else(|error| panic!("{}: {error:?}", query.name()));
        // SQLite has nothing to say of a plain INSERT.
        let is_insert = query.sql(dialect).is_some_and(|sql| sql.contains("INSERT"));
        assert!(!plan.is_empty() || is_insert, "{}", query.name());
    }
    for _ in 0..3 {
        fixture.rows(Query::UserList, params!["", 10_usize]).await;
    }
    fixture.repository.create_user("ada".into(), String::new()).await.unwrap();
    fixture.rows(Query::UserList, params!["", 10_usize]).await;
    let stats = fixture.observer.statistics();
    let list = stats.iter().find(|stats| stats.query == Query::UserList).unwrap();
    assert_eq!((list.calls, list.errors, list.rows), (4, 0, 1));
    assert_eq!(list.latency.counts.iter().sum::<u64>(), 4);
    assert!(list.max <= list.total);
}

async fn c09_texts_come_back_as_they_were(fixture: &Fixture) {
    let texts = [
        "plain".to_owned(),
        "quotes ' \" ` \\ ; -- /* */ $1 ?1 %_".to_owned(),
        "Grüße, 東京, 🦀, \u{202e}rtl\u{202c}, e\u{301}".to_owned(),
        "\u{1}\t\r\n\u{7f}\u{fffd}\u{10ffff}".to_owned(),
        "x".repeat(256 * 1024),
    ];
    let chat = fixture.chat("ada").await;
    for text in &texts {
        let posted =
            fixture.repository.post_message("ada", chat.clone(), text.clone(), None).await.unwrap().value;
        let newest =
            fixture.repository.list_messages("ada", &chat, &page(1, Position::highest())).await.unwrap();
        assert_eq!(newest.rows, [posted]);
        assert_eq!(&newest.rows[0].content, text);
    }
    let title = texts[2].clone();
    let renamed = fixture.repository.rename_chat("ada", chat.clone(), title.clone()).await.unwrap().value;
    let read = fixture.repository.chat(&chat).await.unwrap().unwrap();
    assert_eq!(read, renamed);
    assert_eq!(read.title, title);
}
