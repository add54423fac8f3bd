//! What ada has, and how bob tries to get at it.

use std::net::SocketAddr;

use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use weft_proto::queue::v1::{IngestDocument, ReplyToChat};
use weft_testkit::eventually;

use super::Guarded;
use crate::process::LIMIT;

/// What is in everything that is ada's.
pub(super) const SECRET: &str = "adas-secret";
/// How its bytes begin in base64, as JSON has them.
const SECRET_BASE64: &str = "YWRhcy1zZWNyZX";

/// A call in the Connect protocol.
pub(super) struct Call {
    pub(super) path: String,
    /// One message, or several for a stream.
    messages: Vec<Value>,
    stream: bool,
}

impl Call {
    pub(super) fn unary(service: &str, method: &str, request: Value) -> Self {
        Self { path: format!("/weft.{service}.v1.{method}"), messages: vec![request], stream: false }
    }

    fn stream(service: &str, method: &str, messages: Vec<Value>) -> Self {
        Self { messages, stream: true, ..Self::unary(service, method, Value::Null) }
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for message in &self.messages {
            let text = message.to_string();
            if self.stream {
                body.push(0);
                body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            }
            body.extend(text.bytes());
        }
        body
    }
}

/// Makes a call with these headers; the whole answer as text.
pub(super) async fn exchange(address: SocketAddr, call: &Call, headers: &str) -> String {
    let body = call.body();
    let content_type = if call.stream { "application/connect+json" } else { "application/json" };
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: weft\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         connect-protocol-version: 1\r\ncontent-length: {}\r\n{headers}\r\n",
        call.path,
        body.len()
    );
    let exchanged = timeout(LIMIT, async {
        let Ok(mut stream) = TcpStream::connect(address).await else { return String::new() };
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    });
    exchanged.await.unwrap_or_else(|_| panic!("{} does not end", call.path))
}

/// Whether an answer holds anything of ada's.
pub(super) fn leaks(answer: &str) -> bool {
    answer.contains(SECRET) || answer.contains(SECRET_BASE64)
}

/// What is ada's.
pub(super) struct Things {
    pub(super) chat: String,
    message: String,
    pub(super) job: String,
    /// A job that gave up.
    pub(super) dead: String,
    document: String,
    asset: String,
    notification: String,
}

impl Things {
    pub(super) async fn of_ada(it: &Guarded) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let chat = it
            .json(
                "ada",
                "database",
                "ChatService/CreateChat",
                json!({ "title": SECRET, "idempotencyKey": "k" }),
            )
            .await;
        let chat = text(&chat["chat"]["id"]);
        let put = it.ask("ada", &upload(&format!("{SECRET} is where the ferry leaves from."))).await;
        let asset = between(&put, "\"id\":\"", "\"");
        let document = json!({
            "path": format!("{SECRET}.md"), "assetId": asset, "contentType": "text/markdown", "sizeBytes": "46",
        });
        let document = it.json("ada", "database", "DocumentService/PutDocument", document).await;
        let document = text(&document["document"]["id"]);
        let ready = async || {
            let read =
                it.json("ada", "database", "DocumentService/GetDocument", json!({ "id": document })).await;
            read["document"]["state"] == "DOCUMENT_STATE_READY"
        };
        eventually(LIMIT, ready).await;
        let question =
            json!({ "chatId": chat, "content": format!("{SECRET}: where does the ferry leave from?") });
        let posted = it.json("ada", "database", "MessageService/PostMessage", question).await;
        let (message, job) = (text(&posted["message"]["id"]), text(&posted["jobId"]));
        let unknown = json!({ "queue": "notification_queue", "type": "nobody.knows.It", "payload": "" });
        let dead = it.json("ada", "queue", "QueueService/Publish", unknown).await;
        let dead = text(&dead["job"]["id"]);
        for (id, state) in [(&job, "JOB_STATE_SUCCEEDED"), (&dead, "JOB_STATE_DEAD")] {
            let read = ended(it, "ada", id).await;
            assert_eq!(read["job"]["state"], state, "{read}");
        }
        // Of the document, and of the answer.
        let notified = async || {
            let listed = it.json("ada", "database", "NotificationService/ListNotifications", json!({})).await;
            listed["notifications"].as_array().is_some_and(|all| all.len() >= 2)
        };
        eventually(LIMIT, notified).await;
        let listed = it.json("ada", "database", "NotificationService/ListNotifications", json!({})).await;
        let notification = text(&listed["notifications"][0]["id"]);
        Self { chat, message, job, dead, document, asset, notification }
    }

    /// Returns when everything that bob has had done is done.
    pub(super) async fn wait_for_bobs(&self, it: &Guarded) {
        let settled = async || {
            let listed = it.json("bob", "database", "DocumentService/ListDocuments", json!({})).await;
            let documents = listed["documents"].as_array().cloned().unwrap_or_default();
            documents.iter().all(|document| document["state"] != "DOCUMENT_STATE_PENDING")
        };
        eventually(LIMIT, settled).await;
        for id in [BOBS_REPLY, BOBS_INGEST] {
            // As for something that is not there: with nothing done, or given up.
            ended(it, "bob", id).await;
        }
    }
}

/// A job that has ended.
async fn ended(it: &Guarded, user: &str, id: &str) -> Value {
    let read = async || it.json(user, "queue", "QueueService/GetJob", json!({ "id": id })).await;
    let is_over =
        |job: &Value| ["JOB_STATE_DEAD", "JOB_STATE_SUCCEEDED"].contains(&job["state"].as_str().unwrap());
    eventually(LIMIT, || async { is_over(&read().await["job"]) }).await;
    read().await
}

fn between(text: &str, from: &str, to: &str) -> String {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("{from} is not in {text}")).1;
    rest.split(to).next().unwrap().to_owned()
}

fn upload(text: &str) -> Call {
    let header = json!({ "header": { "name": format!("{SECRET}.md"), "contentType": "text/markdown", "tags": ["t"] } });
    Call::stream("assets", "AssetService/PutAsset", vec![header, json!({ "data": base64(text.as_bytes()) })])
}

/// Of a few bytes; the crate for it is not worth it here.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]));
        }
        text.push_str(&"=".repeat(3 - chunk.len()));
    }
    text
}

const BOBS_REPLY: &str = "00000000-0000-7000-8000-000000000001";
const BOBS_INGEST: &str = "00000000-0000-7000-8000-000000000002";

/// At least one attempt for every method that users may call.
pub(super) fn attempts(things: &Things) -> Vec<Call> {
    let Things { chat, message, job, dead, document, asset, notification } = things;
    let mut all = Vec::new();
    let mut database = |method: &str, request: Value| all.push(Call::unary("database", method, request));
    database("ChatService/GetChat", json!({ "id": chat }));
    database("ChatService/BatchGetChats", json!({ "ids": [chat] }));
    database("ChatService/ListChats", json!({}));
    database("ChatService/UpdateChat", json!({ "id": chat, "title": "bob's" }));
    database("ChatService/CreateChat", json!({ "title": "bob's", "idempotencyKey": "k" }));
    database("ChatService/DeleteChat", json!({ "id": chat }));
    database("MessageService/PostMessage", json!({ "chatId": chat, "content": "bob was here" }));
    database("MessageService/ListMessages", json!({ "chatId": chat }));
    database("DocumentService/GetDocument", json!({ "id": document }));
    database("DocumentService/BatchGetDocuments", json!({ "ids": [document] }));
    database("DocumentService/ListDocuments", json!({}));
    database("DocumentService/DeleteDocument", json!({ "id": document }));
    // Her bytes as his document.
    let taken =
        json!({ "path": "taken.md", "assetId": asset, "contentType": "text/markdown", "sizeBytes": "46" });
    database("DocumentService/PutDocument", taken);
    database("SearchService/SearchChunks", json!({ "text": SECRET }));
    database("ModelService/GetModel", json!({ "id": "none" }));
    database("ModelService/ListModels", json!({}));
    database("NotificationService/ListNotifications", json!({}));
    database("NotificationService/MarkNotificationsRead", json!({ "ids": [notification] }));
    let mut queue = |method: &str, request: Value| all.push(Call::unary("queue", method, request));
    queue("QueueService/GetJob", json!({ "id": job }));
    queue("QueueService/CancelJob", json!({ "id": job }));
    queue("QueueService/ListDeadJobs", json!({ "queue": "notification_queue" }));
    queue("QueueService/RedriveJobs", json!({ "ids": [dead] }));
    queue("QueueService/RedriveJobs", json!({ "queue": "notification_queue" }));
    queue("QueueService/DiscardDeadJobs", json!({ "ids": [dead] }));
    queue("QueueService/DiscardDeadJobs", json!({ "queue": "notification_queue" }));
    // A worker that does what bob says with what is hers.
    let reply = ReplyToChat { chat_id: chat.clone(), message_id: message.clone() };
    let ingest = IngestDocument { document_id: document.clone(), version: 1 };
    queue("QueueService/Publish", publish("chat_queue", "ReplyToChat", &reply.encode_to_vec(), BOBS_REPLY));
    queue(
        "QueueService/Publish",
        publish("document_queue", "IngestDocument", &ingest.encode_to_vec(), BOBS_INGEST),
    );
    queue("QueueService/Publish", publish("chat_queue", "ReplyToChat", &reply.encode_to_vec(), job));
    all.push(Call::stream("queue", "QueueService/WatchJob", vec![json!({ "id": job })]));
    let mut assets = |method: &str, request: Value| all.push(Call::unary("assets", method, request));
    assets("AssetService/StatAsset", json!({ "id": asset }));
    assets("AssetService/ListAssets", json!({}));
    assets("AssetService/GetAssetUrl", json!({ "id": asset }));
    assets("AssetService/PurgeAssets", json!({ "tag": "t" }));
    assets("AssetService/DeleteAsset", json!({ "id": asset }));
    all.push(Call::stream("assets", "AssetService/GetAsset", vec![json!({ "id": asset })]));
    let own = json!({ "header": { "name": "own.md", "contentType": "text/markdown" } });
    let own = vec![own, json!({ "data": base64(b"bob's own") })];
    all.push(Call::stream("assets", "AssetService/PutAsset", own));
    all
}

fn publish(queue: &str, kind: &str, payload: &[u8], id: &str) -> Value {
    json!({
        "queue": queue, "type": format!("weft.queue.v1.{kind}"), "payload": base64(payload), "jobId": id, "maxAttempts": 1,
    })
}
