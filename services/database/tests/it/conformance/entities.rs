//! Sentences 10 to 15 and 21: users, chats, messages, models, notifications.

use futures::future::join_all;
use weft_database::{
    entities::{Citation, Micros, Model, Role},
    error::Error,
    page::Position,
    params,
    repository::{
        Query,
        chats::NewChat,
        messages::Reply,
        outbox::{Effect, Entity},
    },
};

use super::on_every_engine;
use crate::fixture::{Fixture, chunks, page, walk};

on_every_engine! {
    c10_what_is_another_owners_is_not_there,
    c11_all_pages_are_all_rows,
    c11_models_and_users_are_listed_by_id,
    c12_the_first_write_makes_the_user,
    c13_an_idempotency_key_yields_the_first,
    c14_messages_are_numbered_and_summarised,
    c15_a_job_replies_and_notifies_once,
    c21_deleting_takes_everything_along,
}

fn reply(chat_id: &str, job_id: &str, content: &str) -> Reply {
    let citation =
        Citation { document_id: "d".into(), path: "p".into(), ordinal: 3, text: "t".into(), score: 0.5 };
    Reply {
        chat_id: chat_id.to_owned(),
        job_id: job_id.to_owned(),
        content: content.to_owned(),
        citations: vec![citation],
    }
}

async fn c10_what_is_another_owners_is_not_there(fixture: &Fixture) {
    let repository = &fixture.repository;
    let chat = fixture.chat("ada").await;
    let document = fixture.ready("ada", "a.md", chunks(&["secret"])).await;
    repository
        .create_notification("ada", "j".into(), "k".into(), String::new(), String::new())
        .await
        .unwrap();

    let first = page(10, Position::highest());
    let not_found =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::NotFound { .. })), "{result:?}");
    not_found(repository.post_message("bob", chat.clone(), "hi".into(), None).await.map(drop));
    not_found(repository.append_reply("bob", reply(&chat, "j", "hi")).await.map(drop));
    not_found(repository.list_messages("bob", &chat, &first).await.map(drop));
    not_found(repository.rename_chat("bob", chat.clone(), "mine".into()).await.map(drop));
    not_found(repository.begin_upload("bob", &document, 1).await.map(drop));
    not_found(repository.fail_document("bob", document.clone(), 1, "no".into()).await.map(drop));
    assert!(repository.chats_by_id("bob", std::slice::from_ref(&chat)).await.unwrap().is_empty());
    assert!(repository.documents_by_id("bob", std::slice::from_ref(&document)).await.unwrap().is_empty());
    assert!(repository.list_chats("bob", &first).await.unwrap().rows.is_empty());
    assert!(repository.list_notifications("bob", false, &first).await.unwrap().rows.is_empty());
    assert!(repository.match_chunks("bob", &["secret".into()], 10).await.unwrap().is_empty());
    assert!(repository.nearest_chunks("bob", &crate::fixture::axis(0), 10).await.unwrap().is_empty());

    repository.delete_chat("bob", chat.clone()).await.unwrap();
    repository.delete_document("bob", document.clone()).await.unwrap();
    assert!(repository.chat(&chat).await.unwrap().is_some());
    assert!(repository.document(&document).await.unwrap().is_some());
}

async fn c11_all_pages_are_all_rows(fixture: &Fixture) {
    let repository = &fixture.repository;
    repository.create_user("ada".into(), String::new()).await.unwrap();
    // Many chats share a time: only the id tells them apart.
    fixture
        .engine()
        .write(Box::new(|session| {
            Box::pin(async move {
                for n in 0..57_i64 {
                    let (id, at) = (format!("chat-{}", (n * 31) % 57), Micros(1_000 + n % 5));
                    let values = params![id, "ada", "", at, Option::<String>::None, ""];
                    session.execute(Query::ChatCreate, values).await?;
                }
                Ok(())
            })
        }))
        .await
        .unwrap();
    let mut expected: Vec<(i64, String)> =
        (0..57).map(|n| (1_000 + n % 5, format!("chat-{}", (n * 31) % 57))).collect();
    expected.sort_by(|a, b| b.cmp(a));
    for sizes in [&[1][..], &[7], &[3, 11, 1], &[57], &[100]] {
        let all =
            walk(Position::highest(), sizes, async |page| repository.list_chats("ada", &page).await.unwrap());
        let all: Vec<_> = all.await.into_iter().map(|chat| (chat.updated_at.0, chat.id)).collect();
        assert_eq!(all, expected, "{sizes:?}");
    }

    for n in 0..23 {
        fixture.put("ada", &format!("dir/{:02}.md", (n * 7) % 23), "x").await;
        repository
            .create_notification("ada", format!("job-{n}"), "k".into(), String::new(), n.to_string())
            .await
            .unwrap();
    }
    let paths = walk(Position::lowest(), &[4], async |page| {
        repository.list_documents("ada", None, &page).await.unwrap()
    });
    let paths: Vec<_> = paths.await.into_iter().map(|document| document.path).collect();
    assert_eq!(paths, (0..23).map(|n| format!("dir/{n:02}.md")).collect::<Vec<_>>());
    let texts = walk(Position::highest(), &[5], async |page| {
        repository.list_notifications("ada", false, &page).await.unwrap()
    });
    let texts: Vec<_> = texts.await.into_iter().map(|one| one.text).collect();
    assert_eq!(texts, (0..23).rev().map(|n| n.to_string()).collect::<Vec<_>>());
}

async fn c11_models_and_users_are_listed_by_id(fixture: &Fixture) {
    let repository = &fixture.repository;
    let ids = ["Zeta", "alpha", "beta-2", "beta_1", "beta10"];
    for id in ids {
        let model = Model {
            id: id.to_owned(),
            display_name: format!("Model {id}"),
            context_tokens: 4096,
            updated_at: Micros::default(),
        };
        let put = repository.put_model(model).await.unwrap().value;
        assert_eq!(repository.model(id).await.unwrap(), Some(put));
        repository.create_user(id.to_owned(), String::new()).await.unwrap();
    }
    let mut sorted = ids;
    sorted.sort_unstable();
    let models =
        walk(Position::lowest(), &[2], async |page| repository.list_models(&page).await.unwrap()).await;
    assert_eq!(models.into_iter().map(|model| model.id).collect::<Vec<_>>(), sorted);
    let users =
        walk(Position::lowest(), &[2], async |page| repository.list_users(&page).await.unwrap()).await;
    assert_eq!(users.into_iter().map(|user| user.id).collect::<Vec<_>>(), sorted);

    let found = repository.users_by_id(&["beta10".into(), "nobody".into(), "Zeta".into()]).await.unwrap();
    assert_eq!(found.len(), 2);
    let exists = repository.create_user("alpha".into(), String::new()).await;
    assert!(matches!(exists, Err(Error::AlreadyExists { .. })));
    assert_eq!(repository.rename_user("alpha".into(), "Al".into()).await.unwrap().value.display_name, "Al");
    let missing = repository.rename_user("nobody".into(), "No".into()).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    repository.delete_model("alpha".into()).await.unwrap();
    assert_eq!(repository.model("alpha").await.unwrap(), None);
}

async fn c12_the_first_write_makes_the_user(fixture: &Fixture) {
    let repository = &fixture.repository;
    let first = repository.create_chat("ada", NewChat::default()).await.unwrap();
    let about_user = |effect: &Effect| matches!(effect, Effect::Invalidate { entity: Entity::User, .. });
    assert!(first.owed.iter().any(|owed| about_user(&owed.effect)));
    let made = repository.user("ada").await.unwrap().unwrap();
    let second = fixture.put("ada", "a.md", "x").await;
    assert!(!second.owed.iter().any(|owed| about_user(&owed.effect)));
    assert_eq!(repository.user("ada").await.unwrap(), Some(made));
    repository
        .create_notification("bob", "j".into(), "k".into(), String::new(), String::new())
        .await
        .unwrap();
    assert!(repository.user("bob").await.unwrap().is_some());
}

async fn c13_an_idempotency_key_yields_the_first(fixture: &Fixture) {
    let repository = &fixture.repository;
    let key = || Some("key".to_owned());
    let new = || NewChat { title: "t".into(), idempotency_key: key(), ..NewChat::default() };
    let chats = join_all((0..10).map(|_| repository.create_chat("ada", new()))).await;
    let chats: Vec<_> = chats.into_iter().map(|chat| chat.unwrap().value.id).collect();
    assert!(chats.iter().all(|chat| *chat == chats[0]), "{chats:?}");
    assert_ne!(repository.create_chat("bob", new()).await.unwrap().value.id, chats[0]);

    let posts = (0..10).map(|n| repository.post_message("ada", chats[0].clone(), n.to_string(), key()));
    let posts: Vec<_> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
    let first = &posts[0].value;
    assert!(posts.iter().all(|post| post.value.id == first.id && post.value.job_id == first.job_id));
    let jobs =
        posts.iter().flat_map(|post| &post.owed).filter(|owed| matches!(owed.effect, Effect::Publish { .. }));
    assert_eq!(jobs.count(), 1);

    let other = fixture.chat("ada").await;
    let elsewhere = repository.post_message("ada", other, "x".into(), key()).await.unwrap().value;
    assert_eq!(elsewhere.id, first.id);
}

async fn c14_messages_are_numbered_and_summarised(fixture: &Fixture) {
    let repository = &fixture.repository;
    let chat = fixture.chat("ada").await;
    let long = format!("First line\n{}", "ä".repeat(300));
    repository.post_message("ada", chat.clone(), long.clone(), None).await.unwrap();
    repository.append_reply("ada", reply(&chat, "job-1", "the answer")).await.unwrap();
    let last = repository.post_message("ada", chat.clone(), "thanks".into(), None).await.unwrap().value;

    let stored = repository.chat(&chat).await.unwrap().unwrap();
    assert_eq!(stored.title, "First line");
    assert_eq!((stored.message_count, stored.last_message.as_str()), (3, "thanks"));
    assert_eq!(stored.updated_at, last.created_at);
    let messages = walk(Position::highest(), &[2], async |page| {
        repository.list_messages("ada", &chat, &page).await.unwrap()
    });
    let messages = messages.await;
    assert_eq!(messages.iter().map(|message| message.sequence).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(messages[1].role, Role::Assistant);
    assert_eq!(messages[1].citations, reply("", "", "").citations);
    assert_eq!(messages[2].content, long);

    let titled = NewChat { title: "Mine".into(), ..NewChat::default() };
    let titled = repository.create_chat("ada", titled).await.unwrap().value.id;
    repository.post_message("ada", titled.clone(), long, None).await.unwrap();
    let titled = repository.chat(&titled).await.unwrap().unwrap();
    assert_eq!(titled.title, "Mine");
    assert_eq!(titled.last_message.chars().count(), 200);

    // Megabytes of messages come in several pages, whatever the page size.
    for n in 0..12 {
        let text = format!("{n}{}", "x".repeat(250 * 1024));
        repository.post_message("ada", chat.clone(), text, None).await.unwrap();
    }
    let pages = walk(Position::highest(), &[500], async |page| {
        let page = repository.list_messages("ada", &chat, &page).await.unwrap();
        assert!(page.rows.iter().map(|message| message.content.len()).sum::<usize>() < 3 * 1024 * 1024);
        page
    });
    let sequences: Vec<_> = pages.await.into_iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, (1..=15).rev().collect::<Vec<_>>());
}

async fn c15_a_job_replies_and_notifies_once(fixture: &Fixture) {
    let repository = &fixture.repository;
    let chat = fixture.chat("ada").await;
    let replies = (0..5).map(|n| repository.append_reply("ada", reply(&chat, "job", &n.to_string())));
    let replies: Vec<_> = join_all(replies).await.into_iter().map(|reply| reply.unwrap().value).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    assert_eq!(repository.chat(&chat).await.unwrap().unwrap().message_count, 1);

    let notify = |text: &str| {
        repository.create_notification(
            "ada",
            "job".into(),
            "chat.replied".into(),
            chat.clone(),
            text.to_owned(),
        )
    };
    let first = notify("first").await.unwrap().value;
    assert_eq!(notify("second").await.unwrap().value, first);
    assert_eq!(first.text, "first");
    let ids = vec![first.id.clone(), "unknown".to_owned()];
    assert_eq!(repository.mark_notifications_read("bob", ids.clone()).await.unwrap(), 0);
    assert_eq!(repository.mark_notifications_read("ada", ids.clone()).await.unwrap(), 1);
    assert_eq!(repository.mark_notifications_read("ada", ids).await.unwrap(), 0);
    let list = async |unread| {
        repository.list_notifications("ada", unread, &page(10, Position::highest())).await.unwrap()
    };
    assert!(list(true).await.rows.is_empty());
    assert!(list(false).await.rows[0].read_at.is_some());
}

async fn c21_deleting_takes_everything_along(fixture: &Fixture) {
    let repository = &fixture.repository;
    let (chat, kept) = (fixture.chat("ada").await, fixture.chat("ada").await);
    repository.post_message("ada", chat.clone(), "hello".into(), None).await.unwrap();
    repository.delete_chat("ada", chat.clone()).await.unwrap();
    assert_eq!(repository.chat(&chat).await.unwrap(), None);
    assert!(fixture.rows(Query::MessageList, params![&chat, i64::MAX, 10_i64, i64::MAX]).await.is_empty());

    let document = fixture.ready("ada", "a.md", chunks(&["apple", "pear"])).await;
    fixture.ready("ada", "b.md", chunks(&["apple tree"])).await;
    fixture.ready("bob", "b.md", chunks(&["apple pie"])).await;
    repository.delete_document("ada", document.clone()).await.unwrap();
    assert_eq!(repository.document(&document).await.unwrap(), None);
    let apples = async |owner| repository.match_chunks(owner, &["apple".into()], 10).await.unwrap().len();
    assert_eq!(apples("ada").await, 1);
    assert_eq!(repository.nearest_chunks("ada", &crate::fixture::axis(0), 10).await.unwrap().len(), 1);

    let deleted = repository.delete_user("ada".into()).await.unwrap();
    assert!(!deleted.owed.is_empty());
    assert_eq!(repository.user("ada").await.unwrap(), None);
    assert_eq!(repository.chat(&kept).await.unwrap(), None);
    assert_eq!((apples("ada").await, apples("bob").await), (0, 1));
    // Nothing is wrong with deleting what is not there.
    repository.delete_user("ada".into()).await.unwrap();
    repository.delete_chat("ada", chat).await.unwrap();
}
