//! Reads through the cache, and what becomes of them when the cache or the queue is away.

use weft_mesh::error::ErrorKind;
use weft_proto::database::v1 as pb;

use crate::{
    fixture::SLOW,
    mesh::{Backend, Mesh, acting, chunk, ok, on_every_backend, parts},
    peers::{self, Slot, Which},
};

on_every_backend! {
    entities_and_first_pages_are_cached_and_forgotten_when_they_change,
    the_lists_of_users_and_documents_are_cached_and_forgotten_when_they_change,
    what_is_cached_is_its_owners_only,
    a_dead_cache_costs_no_answer_and_leaves_nothing_stale,
    jobs_wait_for_a_queue_that_is_away,
    an_ingested_document_notifies_once,
    a_deleted_user_leaves_the_cache_wholly,
    it_works_alone,
}

fn is_cached(mesh: &Mesh, key: &str) -> bool {
    matches!(mesh.memory.slots().get(key), Some(Slot::Value(_)))
}

async fn entities_and_first_pages_are_cached_and_forgotten_when_they_change(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let chat = mesh.clients.chat("ada", "old").await;
    mesh.settled().await;
    let key = format!("chat:{}", chat.id);
    assert_eq!(mesh.clients.get_chat("ada", &chat.id).await.unwrap().title, "old");
    assert!(is_cached(&mesh, &key));
    let before = mesh.clients.stats().await;
    assert_eq!(mesh.clients.get_chat("ada", &chat.id).await.unwrap().title, "old");
    let after = mesh.clients.stats().await;
    assert_eq!(after.cache_hits, before.cache_hits + 1);
    assert_eq!(after.cache_misses, before.cache_misses);

    assert_eq!(mesh.clients.list_chats("ada", 0).await.chats.len(), 1);
    assert!(is_cached(&mesh, "chat_list:ada"));
    mesh.clients.list_chats("bob", 7).await;
    assert!(!is_cached(&mesh, "chat_list:bob"), "only pages of the default size are");

    mesh.clients.rename("ada", &chat.id, "new").await.unwrap();
    assert!(!is_cached(&mesh, &key) && !is_cached(&mesh, "chat_list:ada"));
    assert_eq!(mesh.clients.get_chat("ada", &chat.id).await.unwrap().title, "new");
    assert_eq!(mesh.clients.list_chats("ada", 0).await.chats[0].title, "new");
    mesh.settled().await;
}

async fn the_lists_of_users_and_documents_are_cached_and_forgotten_when_they_change(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let mut users = mesh.clients.users.clone();
    let create = pb::CreateUserRequest { id: "ada".into(), display_name: "Ada".into() };
    ok(users.create_user(create).await);
    mesh.settled().await;
    let names = async || {
        let mut users = mesh.clients.users.clone();
        let listed = ok(users.list_users(pb::ListUsersRequest::default()).await).users;
        listed.into_iter().map(|user| user.display_name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["Ada"]);
    assert!(is_cached(&mesh, "user_list"));
    let rename = pb::UpdateUserRequest { id: "ada".into(), display_name: "Countess".into() };
    ok(users.update_user(rename).await);
    assert!(!is_cached(&mesh, "user_list"));
    assert_eq!(names().await, ["Countess"]);

    let paths = async || {
        let listed = mesh.clients.documents("ada").await;
        listed.into_iter().map(|document| document.path).collect::<Vec<_>>()
    };
    mesh.clients.put("ada", "a.md", 'a').await.unwrap();
    mesh.settled().await;
    assert_eq!(paths().await, ["a.md"]);
    assert!(is_cached(&mesh, "document_list:ada"));
    mesh.clients.put("ada", "b.md", 'b').await.unwrap();
    assert!(!is_cached(&mesh, "document_list:ada"));
    assert_eq!(paths().await.len(), 2);
    mesh.settled().await;
}

async fn what_is_cached_is_its_owners_only(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let chat = mesh.clients.chat("ada", "private").await;
    let document = mesh.clients.put("ada", "a.md", 'a').await.unwrap().document.unwrap();
    mesh.settled().await;
    let get = pb::GetDocumentRequest { id: document.id.clone() };
    let mut documents = mesh.clients.documents.clone();
    ok(acting("ada", documents.get_document(get.clone())).await);
    mesh.clients.get_chat("ada", &chat.id).await.unwrap();
    assert!(is_cached(&mesh, &format!("chat:{}", chat.id)));
    assert!(is_cached(&mesh, &format!("document:{}", document.id)));
    assert_eq!(mesh.clients.get_chat("bob", &chat.id).await.unwrap_err().kind, ErrorKind::NotFound);
    let foreign = acting("bob", documents.get_document(get)).await.unwrap_err();
    assert_eq!(foreign.code(), tonic::Code::NotFound);
}

async fn a_dead_cache_costs_no_answer_and_leaves_nothing_stale(backend: Backend) {
    let mut mesh = Mesh::start(backend).await;
    let chat = mesh.clients.chat("ada", "old").await;
    mesh.settled().await;
    mesh.clients.get_chat("ada", &chat.id).await.unwrap();
    let key = format!("chat:{}", chat.id);
    assert!(is_cached(&mesh, &key));

    mesh.cache.take().unwrap().stop().await;
    mesh.clients.rename("ada", &chat.id, "new").await.unwrap();
    for _ in 0..10 {
        assert_eq!(mesh.clients.get_chat("ada", &chat.id).await.unwrap().title, "new");
    }
    assert!(mesh.clients.stats().await.outbox_depth > 0, "the invalidation is owed");
    assert!(is_cached(&mesh, &key), "what the cache held when it went away");

    let address = mesh.cache_address.to_string();
    mesh.cache = Some(peers::serve(Which::Cache, &address, &mesh.memory).await);
    mesh.settled().await;
    assert_eq!(mesh.clients.get_chat("ada", &chat.id).await.unwrap().title, "new");
}

async fn jobs_wait_for_a_queue_that_is_away(backend: Backend) {
    let mut mesh = Mesh::start(backend).await;
    let chat = mesh.clients.chat("ada", "").await;
    let first = mesh.clients.post("ada", &chat.id, "one", "k1").await.unwrap();
    assert_eq!(
        mesh.memory.jobs("chat_queue"),
        [("ada".to_owned(), first.job_id.clone())],
        "published by then"
    );

    mesh.queue.take().unwrap().stop().await;
    let second = mesh.clients.post("ada", &chat.id, "two", "k2").await.unwrap();
    let document = mesh.clients.put("ada", "a.md", 'a').await.unwrap().document.unwrap();
    assert_eq!(mesh.memory.jobs("chat_queue").len(), 1);

    let address = mesh.queue_address.to_string();
    mesh.queue = Some(peers::serve(Which::Queue, &address, &mesh.memory).await);
    mesh.settled().await;
    let mut expected = [("ada".to_owned(), first.job_id), ("ada".to_owned(), second.job_id)];
    expected.sort();
    assert_eq!(mesh.memory.jobs("chat_queue"), expected);
    assert_eq!(mesh.memory.jobs("document_queue"), [("ada".to_owned(), document.job_id)]);
}

async fn an_ingested_document_notifies_once(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let document = mesh.clients.put("ada", "a.md", 'a').await.unwrap().document.unwrap();
    let upload = || parts(&document.id, 1, 2, vec![chunk(0, "apples"), chunk(1, "pears")]);
    let first = mesh.clients.complete("ada", upload()).await.unwrap();
    let second = mesh.clients.complete("ada", upload()).await.unwrap();
    assert_eq!(first, second);
    assert_eq!((first.state(), first.chunk_count), (pb::DocumentState::Ready, 2));
    mesh.settled().await;
    assert_eq!(mesh.memory.jobs("notification_queue").len(), 1);
    assert_eq!(mesh.clients.documents("ada").await, [first]);

    let mut search = mesh.clients.search.clone();
    let question = pb::SearchChunksRequest { text: "an apple?".into(), ..Default::default() };
    let hits = ok(acting("ada", search.search_chunks(question)).await).hits;
    assert_eq!((hits.len(), hits[0].path.as_str()), (1, "a.md"));
    assert_eq!(hits[0].chunk.as_ref().unwrap().text, "apples");
}

async fn a_deleted_user_leaves_the_cache_wholly(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let mut chats = Vec::new();
    for n in 0..5 {
        let chat = mesh.clients.chat("ada", &n.to_string()).await;
        mesh.clients.get_chat("ada", &chat.id).await.unwrap();
        chats.push(chat.id);
    }
    let mut users = mesh.clients.users.clone();
    ok(users.delete_user(pb::DeleteUserRequest { id: "ada".into() }).await);
    weft_testkit::eventually(SLOW, || async {
        !chats.iter().any(|id| is_cached(&mesh, &format!("chat:{id}")))
    })
    .await;
    mesh.settled().await;
    for id in &chats {
        assert_eq!(mesh.clients.get_chat("ada", id).await.unwrap_err().kind, ErrorKind::NotFound);
    }
}

async fn it_works_alone(backend: Backend) {
    let mesh = Mesh::configured(backend, |config| {
        config.cache.addresses.clear();
        config.queue.addresses.clear();
    })
    .await;
    let chat = mesh.clients.chat("ada", "t").await;
    mesh.clients.post("ada", &chat.id, "hi", "").await.unwrap();
    assert_eq!(mesh.clients.get_chat("ada", &chat.id).await.unwrap().message_count, 1);
    let stats = mesh.clients.stats().await;
    assert_eq!((stats.outbox_depth, stats.cache_hits, stats.cache_misses), (1, 0, 0), "the job waits");
    assert_eq!(stats.backend, backend.name());
    assert!(stats.reachable);
}
