//! What a user may: every method of the contracts is tried by somebody whose things they are not, through the gateway and
//! around it, with everything that a client can say of itself.
//!
//! The methods are those of the descriptors: a new one without an attempt here fails the test.

mod attempts;

use std::{fs, net::SocketAddr, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;
use weft_mesh::{
    Channel,
    context::{Caller, Role},
    identity::Keys,
    methods::{Access, Methods},
};
use weft_testkit::{eventually, free_port};

use crate::process::{LIMIT, Mesh};
use attempts::{Call, SECRET, Things, attempts};

/// A mesh that asks who calls; `ada` and `bob` are users, `op` is an operator.
struct Guarded {
    mesh: Mesh,
    /// Where a service is called around the gateway.
    services: Vec<(&'static str, SocketAddr)>,
    _keys: TempDir,
}

impl Guarded {
    async fn start() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let file = keys.path().join("keys.toml");
        let people = [("ada", "user"), ("bob", "user"), ("op", "operator")];
        fs::write(&file, people.map(|(user, role)| key(user, role)).concat()).unwrap();
        let mut more = format!("[gateway.auth]\napi_keys = {file:?}\n");
        let address = |_| SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let services = ["cache", "database", "queue", "assets"].map(|name| (name, address(name)));
        for (name, address) in services {
            more += &format!("[{name}]\naddress = \"{address}\"\n");
        }
        let mesh = Mesh::start(&more).await;
        let it = Self { mesh, services: services.into(), _keys: keys };
        let ready =
            async || it.ask("ada", &Call::unary("database", "ChatService/ListChats", json!({}))).await;
        eventually(LIMIT, || async { ready().await.contains("200 OK") }).await;
        it
    }

    /// A call in JSON, as a user, with what else that user says; the whole answer.
    async fn say(&self, user: &str, call: &Call, more: &str) -> String {
        let more = format!("authorization: Bearer weft_{user}1_s3cret\r\n{more}");
        attempts::exchange(self.mesh.gateway, call, &more).await
    }

    async fn ask(&self, user: &str, call: &Call) -> String {
        self.say(user, call, "").await
    }

    async fn json(&self, user: &str, service: &str, method: &str, request: Value) -> Value {
        let answer = self.ask(user, &Call::unary(service, method, request)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{method}: {answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// What a method without a message answers, in gRPC.
    async fn code(&self, address: SocketAddr, path: &str, metadata: &[(&'static str, &str)]) -> Code {
        let mut client = Grpc::new(Channel::direct(address));
        client.ready().await.unwrap();
        let mut request = Request::new(());
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let path = path.parse().unwrap();
        let called = client.unary(request, path, ProstCodec::<(), ()>::default()).await;
        called.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    /// The service of a method's path, and where it is.
    fn service(&self, path: &str) -> Option<(&'static str, SocketAddr)> {
        let named = |name: &str| path.starts_with(&format!("/weft.{name}.v1."));
        self.services.iter().copied().find(|(name, _)| named(name))
    }
}

fn key(user: &str, role: &str) -> String {
    let hash: String = Sha256::digest("s3cret").iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[keys]]\nid = \"{user}1\"\nsha256 = \"{hash}\"\nuser = \"{user}\"\nroles = [\"{role}\"]\n")
}

/// The methods of Weft's contracts with that access.
fn methods(access: Access) -> Vec<String> {
    let methods = Methods::weft();
    let paths = methods.names().map(|name| format!("/{name}")).filter(|path| path.starts_with("/weft."));
    paths.filter(|path| methods.get(path).access == access).collect()
}

/// Everything of ada's that can be read.
async fn all_of_adas(it: &Guarded, things: &Things) -> Vec<String> {
    let mut all = Vec::new();
    for (service, method, request) in [
        ("database", "ChatService/ListChats", json!({})),
        ("database", "MessageService/ListMessages", json!({ "chatId": things.chat })),
        ("database", "DocumentService/ListDocuments", json!({})),
        ("database", "NotificationService/ListNotifications", json!({})),
        ("queue", "QueueService/GetJob", json!({ "id": things.job })),
        ("queue", "QueueService/ListDeadJobs", json!({ "queue": "notification_queue" })),
        ("assets", "AssetService/ListAssets", json!({})),
    ] {
        let read = it.json("ada", service, method, request).await.to_string();
        assert!(
            read.contains(SECRET) || read.contains(&things.dead) || read.contains(&things.job),
            "{method}: {read}"
        );
        all.push(read);
    }
    all
}

#[tokio::test]
async fn nobody_reaches_what_is_somebody_elses_by_any_method() {
    let it = Guarded::start().await;
    let things = Things::of_ada(&it).await;
    let before = all_of_adas(&it, &things).await;

    let attempts = attempts(&things);
    let missing: Vec<_> = methods(Access::User)
        .into_iter()
        .filter(|path| !attempts.iter().any(|attempt| attempt.path == *path))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "no attempt is made at these");
    let stranger = tempfile::tempdir().unwrap();
    let forged = forged(stranger.path());
    for call in &attempts {
        for more in ["".to_owned(), format!("weft-identity: {forged}\r\n")] {
            let answer = it.say("bob", call, &more).await;
            assert!(!attempts::leaks(&answer), "{}: {answer}", call.path);
            assert!(!answer.starts_with("HTTP/1.1 5"), "{}: {answer}", call.path);
        }
        // As for somebody else, nothing is done at all.
        let answer = it.say("bob", call, "weft-user: ada\r\n").await;
        assert!(answer.contains("permission_denied"), "{}: {answer}", call.path);
        let answer = attempts::exchange(it.mesh.gateway, call, "weft-user: ada\r\n").await;
        assert!(answer.contains("unauthenticated"), "{}: {answer}", call.path);
    }
    // What bob has had done on her things was done for bob, and so came to nothing.
    things.wait_for_bobs(&it).await;
    let found = it
        .ask("bob", &Call::unary("database", "SearchService/SearchChunks", json!({ "text": SECRET })))
        .await;
    assert!(found.starts_with("HTTP/1.1 200") && !attempts::leaks(&found), "{found}");
    assert_eq!(all_of_adas(&it, &things).await, before);
}

#[tokio::test]
async fn what_is_for_operators_is_refused_to_users_by_every_method() {
    let it = Guarded::start().await;
    let (bob, op) =
        ([("authorization", "Bearer weft_bob1_s3cret")], [("authorization", "Bearer weft_op1_s3cret")]);
    let methods = methods(Access::Operator);
    assert!(methods.len() > 20, "{methods:?}");
    for path in &methods {
        let address = if path.starts_with("/weft.gateway.") { it.mesh.admin } else { it.mesh.gateway };
        assert_eq!(it.code(address, path, &bob).await, Code::PermissionDenied, "{path}");
        assert_eq!(it.code(address, path, &[]).await, Code::Unauthenticated, "{path}");
        let allowed = it.code(address, path, &op).await;
        assert!(!matches!(allowed, Code::PermissionDenied | Code::Unauthenticated), "{path}: {allowed:?}");
    }
}

#[tokio::test]
async fn around_the_gateway_nobody_is_believed() {
    let it = Guarded::start().await;
    let key = Keys { key: Some(it.mesh.data().join("identity.key")), ..Keys::default() };
    let signer = key.signer("weft-gateway").unwrap().unwrap();
    let op = Caller { user: "op".to_owned(), role: Role::Operator };
    let sign = |audience: &str| signer.sign(&op, audience).unwrap().to_str().unwrap().to_owned();
    let stranger = tempfile::tempdir().unwrap();
    let forged = forged(stranger.path());
    for path in [methods(Access::User), methods(Access::Operator)].concat() {
        let Some((service, address)) = it.service(&path) else { continue };
        let other = if service == "queue" { "database" } else { "queue" };
        for (what, metadata) in [
            ("nothing", vec![]),
            ("a name", vec![("weft-user", "ada".to_owned())]),
            ("an API key", vec![("authorization", "Bearer weft_op1_s3cret".to_owned())]),
            ("an identity of a stranger", vec![("weft-identity", forged.clone())]),
            ("an identity for another service", vec![("weft-identity", sign(other))]),
        ] {
            let metadata: Vec<_> = metadata.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let code = it.code(address, &path, &metadata).await;
            assert_eq!(code, Code::Unauthenticated, "{path} with {what}");
        }
        let code = it.code(address, &path, &[("weft-identity", sign(service).as_str())]).await;
        assert_ne!(code, Code::Unauthenticated, "{path}: it is what the gateway says");
    }
}

/// What somebody who has not the mesh's key can make.
fn forged(folder: &Path) -> String {
    let key = Keys { key: Some(folder.join("identity.key")), create: true, ..Keys::default() };
    let ada = Caller { user: "ada".to_owned(), role: Role::Operator };
    let signed = key.signer("weft-gateway").unwrap().unwrap().sign(&ada, "database").unwrap();
    signed.to_str().unwrap().to_owned()
}
