//! Bad input through gRPC: a precise error that names the field, and nothing changed.

use weft_database::Database;
use weft_mesh::error::{CallError, ErrorKind};
use weft_proto::database::v1 as pb;
use weft_runtime::Listeners;

use crate::mesh::{Backend, Mesh, acting, chunk, ok, on_every_backend, parts, refused};

on_every_backend! {
    page_sizes_and_tokens_are_checked_in_every_list,
    a_token_belongs_to_its_list_and_owner,
    every_wrong_field_is_named,
    operators_fields_are_named_too,
    documents_and_searches_are_checked,
    broken_uploads_change_nothing,
}

async fn page_sizes_and_tokens_are_checked_in_every_list(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let chat = mesh.clients.chat("ada", "").await.id;
    macro_rules! check {
        ($client:ident, $method:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
            let mut client = mesh.clients.$client.clone();
            for size in [-1, i32::MIN, 100_000] {
                let request = pb::$request { page_size: size, $($field: $value,)* ..Default::default() };
                assert_eq!(refused(acting("ada", client.$method(request)).await), ["page_size"]);
            }
            for token in ["x", "????", "AAAAAAAAAAAAAAAAAAAAAAAA", "ä", &"A".repeat(5000)] {
                let page_token = token.to_owned();
                let request = pb::$request { page_token, $($field: $value,)* ..Default::default() };
                assert_eq!(refused(acting("ada", client.$method(request)).await), ["page_token"]);
            }
        }};
    }
    check!(users, list_users, ListUsersRequest {});
    check!(chats, list_chats, ListChatsRequest {});
    check!(messages, list_messages, ListMessagesRequest { chat_id: chat.clone() });
    check!(models, list_models, ListModelsRequest {});
    check!(documents, list_documents, ListDocumentsRequest {});
    check!(notifications, list_notifications, ListNotificationsRequest {});
}

async fn a_token_belongs_to_its_list_and_owner(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    for owner in ["ada", "bob"] {
        mesh.clients.chat(owner, "1").await;
        mesh.clients.chat(owner, "2").await;
    }
    let token = mesh.clients.list_chats("ada", 1).await.next_page_token;
    let request = || pb::ListChatsRequest { page_size: 1, page_token: token.clone() };
    let mut chats = mesh.clients.chats.clone();
    let second = ok(acting("ada", chats.list_chats(request())).await);
    assert_eq!((second.chats[0].title.as_str(), second.next_page_token.as_str()), ("1", ""));
    assert_eq!(refused(acting("bob", chats.list_chats(request())).await), ["page_token"]);
    let mut users = mesh.clients.users.clone();
    let elsewhere = pb::ListUsersRequest { page_size: 1, page_token: token.clone() };
    assert_eq!(refused(users.list_users(elsewhere).await), ["page_token"]);
}

async fn every_wrong_field_is_named(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let mut chats = mesh.clients.chats.clone();
    let mut messages = mesh.clients.messages.clone();
    let long = pb::CreateChatRequest {
        title: "ä".repeat(501),
        idempotency_key: String::new(),
        ..Default::default()
    };
    assert_eq!(refused(acting("ada", chats.create_chat(long)).await), ["title"]);
    let nul = pb::CreateChatRequest { title: "a\0b".into(), ..Default::default() };
    assert_eq!(refused(acting("ada", chats.create_chat(nul)).await), ["title"]);
    let key = pb::CreateChatRequest { idempotency_key: "k".repeat(201), ..Default::default() };
    assert_eq!(refused(acting("ada", chats.create_chat(key)).await), ["idempotency_key"]);
    assert_eq!(refused(acting("ada", chats.get_chat(pb::GetChatRequest::default())).await), ["id"]);
    let spaces = pb::GetChatRequest { id: "a b".into() };
    assert_eq!(refused(acting("ada", chats.get_chat(spaces)).await), ["id"]);
    assert_eq!(
        refused(acting("ada", chats.batch_get_chats(pb::BatchGetChatsRequest::default())).await),
        ["ids"]
    );
    let many = pb::BatchGetChatsRequest { ids: vec!["x".to_owned(); 257] };
    assert_eq!(refused(acting("ada", chats.batch_get_chats(many)).await), ["ids"]);

    let chat_id = mesh.clients.chat("ada", "").await.id;
    for content in [String::new(), "x".repeat(256 * 1024 + 1)] {
        let post = pb::PostMessageRequest { chat_id: chat_id.clone(), content, ..Default::default() };
        assert_eq!(refused(acting("ada", messages.post_message(post)).await), ["content"]);
    }
    let citation = pb::Citation { score: f32::NAN, ..Default::default() };
    let reply =
        pb::AppendReplyRequest { chat_id: chat_id.clone(), citations: vec![citation], ..Default::default() };
    let fields = refused(acting("ada", messages.append_reply(reply)).await);
    assert_eq!(fields, ["job_id", "citations[0].score"]);
    let quotes = pb::AppendReplyRequest {
        chat_id: chat_id.clone(),
        job_id: "j".into(),
        citations: vec![pb::Citation::default(); 33],
        ..Default::default()
    };
    assert_eq!(refused(acting("ada", messages.append_reply(quotes)).await), ["citations"]);
    assert!(mesh.clients.messages("ada", &chat_id).await.is_empty());
    assert_eq!(mesh.clients.list_chats("ada", 0).await.chats.len(), 1);
}

async fn operators_fields_are_named_too(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let (mut users, mut models) = (mesh.clients.users.clone(), mesh.clients.models.clone());
    let (mut insight, mut notifications) = (mesh.clients.insight.clone(), mesh.clients.notifications.clone());
    let user = pb::CreateUserRequest { id: "two words".into(), display_name: "x".repeat(201) };
    assert_eq!(refused(users.create_user(user).await), ["id", "display_name"]);
    assert_eq!(refused(models.put_model(pb::PutModelRequest::default()).await), ["model"]);
    let unnamed = pb::PutModelRequest { model: Some(pb::Model::default()) };
    assert_eq!(refused(models.put_model(unnamed).await), ["model.id"]);
    let slow = pb::ListSlowQueriesRequest { limit: 201 };
    assert_eq!(refused(insight.list_slow_queries(slow).await), ["limit"]);
    let told = pb::CreateNotificationRequest { text: "x".repeat(2001), ..Default::default() };
    assert_eq!(refused(notifications.create_notification(told).await), ["job_id", "kind", "text"]);

    let create = || pb::CreateUserRequest { id: "ada".into(), display_name: "Ada".into() };
    ok(users.create_user(create()).await);
    let again = CallError::from(users.create_user(create()).await.unwrap_err());
    assert_eq!(again.kind, ErrorKind::AlreadyExists);
    let unknown = pb::ExplainQueryRequest { name: "drop table users".into() };
    assert_eq!(insight.explain_query(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    let known = pb::ExplainQueryRequest { name: "chat_list".into() };
    let explained = ok(insight.explain_query(known).await);
    assert!(explained.plan.contains("chats_by_recency"), "{}", explained.plan);
    let stats = ok(insight.list_query_stats(pb::ListQueryStatsRequest {}).await).queries;
    let created = stats.iter().find(|stats| stats.name == "user_create").unwrap();
    assert_eq!((created.calls, created.rows), (2, 1));
    assert_eq!(created.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 2);
    assert!(created.buckets.last().unwrap().upper_bound.is_none());
}

async fn documents_and_searches_are_checked(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let (mut documents, mut search) = (mesh.clients.documents.clone(), mesh.clients.search.clone());
    let put = pb::PutDocumentRequest { path: "a\nb".into(), asset_id: "A".repeat(64), ..Default::default() };
    assert_eq!(refused(acting("ada", documents.put_document(put)).await), ["path", "asset_id"]);
    let state = pb::ListDocumentsRequest { state: 9, ..Default::default() };
    assert_eq!(refused(acting("ada", documents.list_documents(state)).await), ["state"]);
    let reason = pb::FailDocumentRequest { document_id: "d".into(), version: 1, reason: String::new() };
    assert_eq!(refused(acting("ada", documents.fail_document(reason)).await), ["reason"]);
    assert!(mesh.clients.documents("ada").await.is_empty());

    assert_eq!(
        refused(acting("ada", search.search_chunks(pb::SearchChunksRequest::default())).await),
        ["text"]
    );
    let long = pb::SearchChunksRequest { text: "x".repeat(8193), limit: 101, ..Default::default() };
    assert_eq!(refused(acting("ada", search.search_chunks(long)).await), ["text", "limit"]);
    let ragged = pb::SearchChunksRequest { embedding: vec![0, 1, 2].into(), ..Default::default() };
    assert_eq!(refused(acting("ada", search.search_chunks(ragged)).await), ["embedding"]);
}

async fn broken_uploads_change_nothing(backend: Backend) {
    let mesh = Mesh::start(backend).await;
    let document = mesh.clients.put("ada", "a.md", 'a').await.unwrap().document.unwrap();
    let id = document.id.as_str();
    let header = |count| parts(id, 1, count, Vec::new()).remove(0);
    let long = chunk(0, &"x".repeat(16 * 1024 + 1));
    let unnormalised = pb::Chunk { embedding: vec![0, 0, 128, 64].into(), ..chunk(0, "x") };
    let cases = [
        (Vec::new(), "header"),
        (parts(id, 1, 1, vec![chunk(0, "x")]).split_off(1), "header"),
        (vec![header(1), header(1)], "header"),
        (parts(id, 1, 100_001, Vec::new()), "header.chunk_count"),
        (parts(id, 1, 2, vec![chunk(0, "x")]), "header.chunk_count"),
        (parts(id, 1, 1, vec![chunk(0, "x"), chunk(1, "y")]), "header.chunk_count"),
        (parts(id, 1, 2, vec![chunk(0, "x"), chunk(2, "y")]), "chunks[1].ordinal"),
        (parts(id, 1, 1, vec![long]), "chunks[0].text"),
        (parts(id, 1, 1, vec![unnormalised]), "chunks[0].embedding"),
        (parts(id, 1, 80, (0..80).map(|n| chunk(n, &"x".repeat(16 * 1024))).collect()), "chunks"),
        (parts(id, 2, 1, vec![chunk(0, "x")]), "version"),
        (vec![header(1), pb::CompleteDocumentRequest { part: None }], "part"),
    ];
    for (parts, field) in cases {
        let error = mesh.clients.complete("ada", parts).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{field}: {error:?}");
        assert_eq!(error.fields[0].field, field);
    }
    let unknown = mesh.clients.complete("ada", parts("unknown", 1, 0, Vec::new())).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotFound);
    assert_eq!(mesh.clients.documents("ada").await, std::slice::from_ref(&document));

    mesh.clients.put("ada", "a.md", 'b').await.unwrap();
    let late = mesh.clients.complete("ada", parts(id, 1, 1, vec![chunk(0, "x")])).await.unwrap_err();
    assert_eq!((late.kind, late.reason.as_str()), (ErrorKind::FailedPrecondition, "DOCUMENT_SUPERSEDED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_database_is_an_error_at_start() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("weft.db"), "this is a letter to my aunt, not a database\n".repeat(99))
        .unwrap();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let config = crate::mesh::config(&folder, nowhere, nowhere);
    let listeners = Listeners::bind(&config).await.unwrap();
    let error = weft_runtime::start::<Database>(config.clone(), listeners).await.unwrap_err();
    assert!(format!("{error:#}").contains("not a database"), "{error:#}");

    let blocked = weft_database::Config { data_dir: folder.path().join("weft.db/sub"), ..config };
    let listeners = Listeners::bind(&blocked).await.unwrap();
    let error = weft_runtime::start::<Database>(blocked, listeners).await.unwrap_err();
    assert!(error.to_string().starts_with("data_dir"), "{error:#}");
}
