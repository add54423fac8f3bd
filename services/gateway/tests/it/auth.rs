//! Callers are asked who they are: what they show, what they may, what backends are told, and keys that change.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;
use weft_gateway::{CertificateHolder, Config, Gateway, HealthKind, Permission, RateLimit};
use weft_mesh::{
    Channel,
    context::{Caller, Role},
    error::ErrorKind,
    identity::Keys,
};
use weft_proto::gateway::v1::{
    ListPoolsRequest, ReloadConfigRequest, gateway_service_client::GatewayServiceClient,
};
use weft_runtime::{Listeners, Running, config::Sources, start};
use weft_testkit::{Authority, TokenIssuer, eventually};

use crate::{
    backend::TestBackend,
    client::{Client, http, http_over},
    config, started,
};

const LIMIT: Duration = Duration::from_secs(20);

fn key(id: &str, user: &str, role: &str) -> String {
    let hash: String = Sha256::digest("s3cret").iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[keys]]\nid = \"{id}\"\nsha256 = \"{hash}\"\nuser = \"{user}\"\nroles = [\"{role}\"]\n")
}

/// A gateway that takes API keys of `ada` (user), `app` (service) and `op` (operator).
struct Guarded {
    gateway: Running,
    backend: TestBackend,
    folder: TempDir,
}

impl Guarded {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys.toml");
        fs::write(
            &keys,
            key("ada1", "ada", "user") + &key("app1", "app", "service") + &key("op1", "op", "operator"),
        )
        .unwrap();
        let backend = TestBackend::start().await;
        let mut config = config(&[backend.address], &[backend.address], HealthKind::Tcp);
        config.auth.api_keys = Some(keys);
        config.identity =
            Keys { key: Some(folder.path().join("identity.key")), create: true, trusted: vec![] };
        config.pools[1].identity = Some("database".to_owned());
        change(&mut config);
        Self { gateway: started(config).await, backend, folder }
    }

    /// What the backend is told when the gateway is asked with these headers.
    async fn told(&self, headers: &str) -> String {
        self.get("/web/Headers", headers).await
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        get(self.gateway.address, path, headers).await
    }
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    http(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")).await
}

fn shows(key: &str) -> String {
    format!("authorization: Bearer weft_{key}_s3cret\r\n")
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

/// The value of a header that the backend was told.
fn header(answer: &str, name: &str) -> Option<String> {
    let rest = answer.split_once(&format!("\"{name}\": \""))?.1;
    Some(rest.split('"').next()?.to_owned())
}

#[tokio::test]
async fn a_caller_is_told_what_is_missing_in_its_own_protocol() {
    let it = Guarded::start(|_| {}).await;
    let answer = it.told("").await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer"), "{answer}");
    assert!(answer.contains("\"UNAUTHENTICATED\""), "{answer}");
    assert!(it.told(&shows("nobody")).await.starts_with("HTTP/1.1 401"));
    assert!(it.told(&shows("ada1")).await.starts_with("HTTP/1.1 200"));
    let client = Client::connect(it.gateway.address).await;
    let refused = client.unary("Echo", b"x", &[]).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason.as_str()), (ErrorKind::Unauthenticated, "UNAUTHENTICATED"));
    let bearer = [("authorization", "Bearer weft_ada1_s3cret")];
    client.unary("Echo", b"x", &bearer).await.unwrap();
    assert!(it.get("/health", "").await.starts_with("HTTP/1.1 200"), "it is for everybody");
    it.gateway.stop().await;
}

#[tokio::test]
async fn a_service_is_told_who_calls_so_that_it_can_believe_it_and_nobody_else_can_say_it() {
    let it = Guarded::start(|_| {}).await;
    let keys = Keys { key: Some(it.folder.path().join("identity.key")), ..Keys::default() };
    let verifier = keys.verifier("database").unwrap().unwrap();
    let believed = |answer: &str| {
        let identity = header(answer, "weft-identity").unwrap();
        verifier
            .verify(&HeaderMap::from_iter([("weft-identity".parse().unwrap(), identity.parse().unwrap())]))
    };
    let caller = |user: &str, role| Caller { user: user.to_owned(), role };
    let stolen = header(&it.told(&shows("op1")).await, "weft-identity").unwrap();

    let lies = format!(
        "{}weft-identity: {stolen}\r\nweft-user: ada\r\nweft_user: op\r\nweft_identity: {stolen}\r\n",
        shows("ada1")
    );
    let answer = it.told(&lies).await;
    assert_eq!(believed(&answer).unwrap(), caller("ada", Role::User), "{answer}");
    for gone in ["weft-user", "weft_user", "weft_identity", "authorization"] {
        assert_eq!(header(&answer, gone), None, "{gone} in {answer}");
    }
    assert_eq!(answer.matches("weft-identity").count(), 1, "{answer}");

    let acting = it.told(&format!("{}weft-user: bob\r\n", shows("app1"))).await;
    assert_eq!(believed(&acting).unwrap(), caller("bob", Role::Service));
    let refused = it.told(&format!("{}weft-user: bob\r\n", shows("ada1"))).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("PERMISSION_DENIED"), "{refused}");
    let alone = it.told(&format!("weft-identity: {stolen}\r\n")).await;
    assert_eq!(status(&alone), "401", "what services believe is worth nothing here");
    it.gateway.stop().await;
}

#[tokio::test]
async fn other_backends_are_told_a_name_and_keep_what_is_theirs() {
    let it = Guarded::start(|config| {
        config.pools[1].identity = None;
        config.auth.rules = vec![
            Permission { calls: "/web/open/*".into(), roles: vec!["anonymous".into()] },
            Permission { calls: "/web/*".into(), roles: vec!["user".into(), "service".into()] },
        ];
    })
    .await;
    let answer = it.told(&format!("{}weft-user: ada\r\nweft_user: root\r\n", shows("ada1"))).await;
    assert_eq!(header(&answer, "weft-user").as_deref(), Some("ada"));
    for gone in ["weft_user", "authorization", "weft-identity"] {
        assert_eq!(header(&answer, gone), None, "{gone} in {answer}");
    }
    let open =
        it.get("/web/open/Headers", "authorization: Bearer of-the.app.itself\r\nweft-user: root\r\n").await;
    assert_eq!(header(&open, "authorization").as_deref(), Some("Bearer of-the.app.itself"), "{open}");
    assert_eq!(header(&open, "weft-user"), None, "{open}");
    it.gateway.stop().await;
}

#[tokio::test]
async fn what_no_rule_allows_is_denied_however_the_path_is_written() {
    let it = Guarded::start(|config| {
        config.auth.rules = vec![
            Permission { calls: "grpc.testing.TestService/Echo".into(), roles: vec!["user".into()] },
            Permission { calls: "/web/admin/*".into(), roles: vec!["operator".into()] },
        ];
        config.routes[1].roles = vec!["user".into(), "operator".into()];
    })
    .await;
    let client = Client::connect(it.gateway.address).await;
    let ada = [("authorization", "Bearer weft_ada1_s3cret")];
    client.unary("Echo", b"x", &ada).await.unwrap();
    let denied = client.unary("Hang", b"x", &ada).await.unwrap_err();
    assert_eq!((denied.kind, denied.reason.as_str()), (ErrorKind::PermissionDenied, "PERMISSION_DENIED"));
    let before = it.backend.calls.load(Ordering::Relaxed);
    for path in ["/web/admin/x", "/web//admin/x", "/web/%61dmin/x", "//web/admin/x", "/web/admin%2Fx"] {
        let answer = it.get(path, &shows("ada1")).await;
        assert!(matches!(status(&answer), "403" | "404" | "400"), "{path}: {answer}");
        assert!(path != "/web/admin%2Fx" || status(&answer) == "400", "{path}: {answer}");
    }
    assert_eq!(it.backend.calls.load(Ordering::Relaxed), before, "none of them came through");
    assert_eq!(
        status(&it.get("/web/a%2Fb/Headers", &shows("ada1")).await),
        "200",
        "both readings are the same here"
    );
    assert_eq!(status(&it.get("/web/admin/Headers", &shows("op1")).await), "200");
    assert_eq!(status(&it.get("/web/Headers", &shows("ada1")).await), "200", "as the route says");
    assert_eq!(status(&it.get("/web/Headers", &shows("app1")).await), "403");
    it.gateway.stop().await;
}

#[tokio::test]
async fn the_admin_port_is_for_operators_and_its_probes_for_everybody() {
    let it = Guarded::start(|_| {}).await;
    let list = async |key: Option<&str>| {
        let mut request = tonic::Request::new(ListPoolsRequest {});
        if let Some(key) = key {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer weft_{key}_s3cret").parse().unwrap());
        }
        let listed = GatewayServiceClient::new(Channel::direct(it.gateway.admin)).list_pools(request).await;
        listed.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(list(None).await, Err(tonic::Code::Unauthenticated));
    assert_eq!(list(Some("ada1")).await, Err(tonic::Code::PermissionDenied));
    assert_eq!(list(Some("op1")).await, Ok(()));
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        assert_eq!(status(&get(it.gateway.admin, path, "").await), "200", "{path}");
    }
    for path in ["/", "/weft.gateway.v1.GatewayService/ListPools", "/console"] {
        assert_eq!(status(&get(it.gateway.admin, path, "").await), "401", "{path}");
    }
    it.gateway.stop().await;
}

#[tokio::test]
async fn a_client_certificate_is_somebody() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let own = authority.issue("own", &["gateway.example"]).unwrap();
    let app = authority.issue("app", &["app.example", "spiffe://weft/app"]).unwrap();
    let other = authority.issue("other", &["other.example"]).unwrap();
    let it = Guarded::start(|config| {
        config.pools[1].identity = None;
        config.auth.certificates = vec![CertificateHolder {
            name: "spiffe://weft/app".into(),
            user: "app".into(),
            roles: vec!["service".into()],
        }];
        config.listeners[0].tls = Some(weft_mesh::tls::Server {
            client_ca: Some(authority.certificate.clone()),
            client_certificates: weft_mesh::tls::ClientCertificates::Optional,
            ..crate::tls::server(&[&own])
        });
    })
    .await;
    let asks = async |shown, headers: &str| {
        let stream =
            crate::tls::connect(it.gateway.address, &authority, ("gateway.example", b"http/1.1"), shown);
        let request = format!("GET /web/Headers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        http_over(stream.await.unwrap(), &request).await
    };
    let answer = asks(Some(&app), "weft-user: bob\r\n").await;
    assert_eq!(header(&answer, "weft-user").as_deref(), Some("bob"), "{answer}");
    assert_eq!(status(&asks(Some(&other), "").await), "401", "it is vouched for, and nobody");
    assert_eq!(status(&asks(None, "").await), "401");
    let with_key = asks(Some(&app), &shows("ada1")).await;
    assert_eq!(header(&with_key, "weft-user").as_deref(), Some("ada"), "what is shown for the call counts");
    assert_eq!(status(&asks(Some(&app), &shows("nobody")).await), "401");
    it.gateway.stop().await;
}

#[tokio::test]
async fn who_guesses_is_limited_too_and_a_user_is_one_wherever_it_calls_from() {
    let it = Guarded::start(|config| {
        let limit =
            RateLimit { requests: 2, per: Duration::from_secs(3600), key: "user".into(), burst: None };
        config.routes[1].rate_limits = vec![limit];
    })
    .await;
    let mut statuses = Vec::new();
    for headers in
        [shows("ada1"), shows("ada1"), shows("ada1"), shows("app1"), shows("no"), shows("on"), shows("or")]
    {
        statuses.push(status(&it.told(&headers).await).to_owned());
    }
    assert_eq!(statuses, ["200", "200", "429", "200", "401", "401", "429"]);
    it.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_has_so_many_calls_at_once_and_leaves_room_for_others() {
    let it = Guarded::start(|config| config.routes[0].max_in_flight_per_caller = 2).await;
    let client = Client::connect(it.gateway.address).await;
    let (ada, app) = (
        [("authorization", "Bearer weft_ada1_s3cret")],
        [("authorization", "Bearer weft_app1_s3cret"), ("weft-user", "bob")],
    );
    let hang = || {
        let client = client.clone();
        TaskTracker::new().spawn(async move { client.unary("Hang", b"x", &ada).await })
    };
    let held = [hang(), hang()];
    eventually(LIMIT, || async { it.backend.calls.load(Ordering::Relaxed) >= 2 }).await;
    let refused = client.unary("Echo", b"x", &ada).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.reason.as_str()),
        (ErrorKind::ResourceExhausted, "CONCURRENCY_LIMITED")
    );
    assert!(refused.retry_after.is_some());
    client.unary("Echo", b"x", &app).await.unwrap();
    held.iter().for_each(tokio::task::JoinHandle::abort);
    eventually(LIMIT, || async { client.unary("Echo", b"x", &ada).await.is_ok() }).await;
    it.gateway.stop().await;
}

fn claims(user: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({ "iss": "https://id.example", "aud": "weft", "sub": user, "exp": now + 3600 })
}

/// Serves a text, whatever is asked for, as long as there is one.
async fn serve(text: Arc<std::sync::Mutex<Option<String>>>, fetched: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            fetched.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = text.lock().unwrap().clone().map_or_else(
                || "HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n".to_owned(),
                |text| format!("HTTP/1.1 200 ok\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// A gateway that is configured by a file, which names where an issuer's keys are.
async fn by_file(backend: &TestBackend, folder: &TempDir, jwks: SocketAddr, more: &str) -> Running {
    let file = folder.path().join("gateway.toml");
    let text = format!(
        "workers = 2\nlisteners = [{{ address = \"127.0.0.1:0\" }}]\nadmin = {{ address = \"127.0.0.1:0\" }}\n\
         reload = {{ interval = \"1h\" }}\n\
         [auth]\napi_keys = {:?}\n\
         [[auth.issuers]]\nissuer = \"https://id.example\"\naudiences = [\"weft\"]\n\
         jwks_url = \"http://{jwks}/keys\"\n{more}\n\
         [[pools]]\nname = \"web\"\nprotocol = \"http\"\nhealth = {{ kind = \"none\" }}\n\
         backends = [{{ address = \"{}\" }}]\n\
         [[routes]]\npath_prefix = \"/web/\"\npool = \"web\"\n",
        folder.path().join("keys.toml"),
        backend.address
    );
    fs::write(&file, text).unwrap();
    let sources = Sources::read(Some(&file)).unwrap();
    let config = sources.load::<Config>("gateway", toml::Table::new()).unwrap();
    let listeners = Listeners::bind(&config).await.unwrap();
    start::<Gateway>(config, listeners).await.unwrap()
}

async fn reload(gateway: &Running) -> Vec<String> {
    let mut request = tonic::Request::new(ReloadConfigRequest {});
    request.metadata_mut().insert("authorization", "Bearer weft_op1_s3cret".parse().unwrap());
    let mut admin = GatewayServiceClient::new(Channel::direct(gateway.admin));
    admin.reload_config(request).await.unwrap().into_inner().problems
}

/// Keys that change under load: none that should pass fails, none passes that should fail once that is acknowledged.
#[tokio::test]
async fn keys_are_rotated_and_revoked_under_load() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), TestBackend::start().await);
    let keys = folder.path().join("keys.toml");
    let all = |ids: &[&str]| {
        ids.iter().map(|id| key(id, id, "user")).collect::<String>() + &key("op1", "op", "operator")
    };
    fs::write(&keys, all(&["stays", "goes"])).unwrap();
    let (old, new) = (TokenIssuer::new("old").unwrap(), TokenIssuer::new("new").unwrap());
    let set = Arc::new(std::sync::Mutex::new(Some(old.jwks())));
    let jwks = serve(Arc::clone(&set), Arc::default()).await;
    let gateway = by_file(&backend, &folder, jwks, "refresh = \"10s\"").await;

    let (failed, passed, stop) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load = TaskTracker::new();
    for _ in 0..4 {
        let (failed, passed, stop) = (Arc::clone(&failed), Arc::clone(&passed), Arc::clone(&stop));
        let (address, headers) = (gateway.address, shows("stays"));
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = get(address, "/web/Headers", &headers).await;
                if status(&answer) == "200" { &passed } else { &failed }.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let asks =
        async |headers: String| status(&get(gateway.address, "/web/Headers", &headers).await).to_owned();
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    let (by_old, by_new) =
        (bearer(&old.sign(&claims("ada")).unwrap()), bearer(&new.sign(&claims("ada")).unwrap()));
    assert_eq!(asks(by_old.clone()).await, "200");
    assert_eq!(asks(shows("goes")).await, "200");

    // Both keys are published for a while, as issuers do.
    *set.lock().unwrap() = Some(json!({ "keys": [old.jwk(), new.jwk()] }).to_string());
    assert_eq!(reload(&gateway).await, Vec::<String>::new());
    assert_eq!(
        (asks(by_old.clone()).await, asks(by_new.clone()).await),
        ("200".to_owned(), "200".to_owned())
    );
    *set.lock().unwrap() = Some(new.jwks());
    fs::write(&keys, all(&["stays"])).unwrap();
    assert_eq!(reload(&gateway).await, Vec::<String>::new());
    for _ in 0..20 {
        assert_eq!(asks(by_old.clone()).await, "401");
        assert_eq!(asks(shows("goes")).await, "401");
        assert_eq!(asks(by_new.clone()).await, "200");
    }
    // Its keys cannot be fetched, which is said, and those before stay.
    *set.lock().unwrap() = None;
    assert_eq!(reload(&gateway).await.len(), 1);
    assert_eq!(asks(by_new).await, "200");

    let before = passed.load(Ordering::Relaxed);
    eventually(LIMIT, || async { passed.load(Ordering::Relaxed) > before + 50 }).await;
    stop.store(true, Ordering::Relaxed);
    load.close();
    load.wait().await;
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", passed.load(Ordering::Relaxed));
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_with_a_key_that_is_not_known_has_keys_fetched_and_not_more_often_than_they_may_be() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), TestBackend::start().await);
    fs::write(folder.path().join("keys.toml"), key("op1", "op", "operator")).unwrap();
    let (old, new) = (TokenIssuer::new("old").unwrap(), TokenIssuer::new("new").unwrap());
    let (set, fetched) = (Arc::new(std::sync::Mutex::new(Some(old.jwks()))), Arc::new(AtomicU64::new(0)));
    let jwks = serve(Arc::clone(&set), Arc::clone(&fetched)).await;
    let gateway = by_file(&backend, &folder, jwks, "refresh = \"1h\"").await;
    let asks = async |issuer: &TokenIssuer| {
        let token = issuer.sign(&claims("ada")).unwrap();
        status(&get(gateway.address, "/web/Headers", &format!("authorization: Bearer {token}\r\n")).await)
            .to_owned()
    };
    // Whoever comes before the first fetch has ended waits for it.
    assert_eq!(asks(&old).await, "200");
    *set.lock().unwrap() = Some(json!({ "keys": [old.jwk(), new.jwk()] }).to_string());
    let before = fetched.load(Ordering::Relaxed);
    for _ in 0..10 {
        assert_eq!(asks(&new).await, "401", "the keys were fetched less than a tenth of an hour ago");
    }
    assert_eq!(fetched.load(Ordering::Relaxed), before);
    assert_eq!(reload(&gateway).await, Vec::<String>::new());
    assert_eq!(asks(&new).await, "200");
    gateway.stop().await;
}

#[tokio::test]
async fn who_may_call_is_checked_whole_before_anything_starts() {
    let text = r#"
        listeners = [{ address = "0.0.0.0:0" }]
        [auth]
        api_keys = "/nowhere/keys.toml"
        rules = [{ calls = "weft.cache", roles = ["Admin"] }, { calls = "*", roles = [] }]
        certificates = [{ name = "", user = "two words" }]
        [[auth.issuers]]
        jwks_url = "ftp://id.example"
        algorithms = ["RSA"]
        refresh = "1s"
        roles = { a = "anonymous" }
        [[auth.issuers]]
        issuer = "b"
        audiences = ["weft"]
    "#;
    let load = |text: &str| Sources::from_text(text).unwrap().load::<Config>("gateway", toml::Table::new());
    let problems = load(text).unwrap_err().problems;
    for expected in [
        "auth.api_keys: /nowhere/keys.toml",
        "auth.rules[0].calls: \"weft.cache\"",
        "auth.rules[0].roles: \"Admin\"",
        "auth.rules[1].roles: at least one",
        "auth.certificates[0].name",
        "auth.certificates[0]: user must be",
        "auth.issuers[0].issuer",
        "auth.issuers[0].audiences",
        "auth.issuers[0].jwks_url",
        "auth.issuers[0].algorithms: \"RSA\"",
        "auth.issuers[0].refresh",
        "auth.issuers[0].roles: \"anonymous\"",
        "auth.issuers[1]: needs jwks_url or jwks_file",
        "pools[0].identity: needs identity.key",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected} is not in {problems:#?}"
        );
    }
    assert!(!problems.iter().any(|problem| problem.contains("loopback")), "callers are asked who they are");
    let nobody = "listeners = [{ address = \"0.0.0.0:0\" }]\n[[routes]]\npath = \"/\"\npool = \"cache\"\nroles = [\"user\"]";
    let problems = load(nobody).unwrap_err().problems;
    for expected in ["listeners[0].address: 0.0.0.0:0 is not loopback", "auth: roles are asked for"] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected} is not in {problems:#?}"
        );
    }
}

/// A client that names a header in `Connection` has it dropped, but not one that the gateway has set.
#[tokio::test]
async fn a_client_cannot_have_dropped_what_the_gateway_says() {
    let it = Guarded::start(|config| config.pools[1].identity = None).await;
    let answer = http(
        it.gateway.address,
        &format!(
            "GET /web/Headers HTTP/1.1\r\nhost: x\r\nconnection: close, weft-user, weft-identity\r\n{}\r\n",
            shows("ada1")
        ),
    )
    .await;
    assert_eq!(header(&answer, "weft-user").as_deref(), Some("ada"), "{answer}");
    it.gateway.stop().await;
}

#[tokio::test]
async fn a_reload_takes_no_authentication_away_from_who_can_be_reached() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), TestBackend::start().await);
    fs::write(folder.path().join("keys.toml"), key("ada1", "ada", "user") + &key("op1", "op", "operator"))
        .unwrap();
    let file = folder.path().join("gateway.toml");
    let text = |listen: &str, auth: &str| {
        format!(
            "workers = 1\nlisteners = [{{ address = \"{listen}\" }}]\nadmin = {{ address = \"127.0.0.1:0\" }}\n\
             reload = {{ interval = \"1h\" }}\n{auth}\n\
             [[pools]]\nname = \"web\"\nprotocol = \"http\"\nhealth = {{ kind = \"none\" }}\n\
             backends = [{{ address = \"{}\" }}]\n\
             [[routes]]\npath_prefix = \"/web/\"\npool = \"web\"\n",
            backend.address
        )
    };
    let auth = format!("auth = {{ api_keys = {:?} }}", folder.path().join("keys.toml"));
    fs::write(&file, text("0.0.0.0:0", &auth)).unwrap();
    let sources = Sources::read(Some(&file)).unwrap();
    let config = sources.load::<Config>("gateway", toml::Table::new()).unwrap();
    let listeners = Listeners::bind(&config).await.unwrap();
    let gateway = start::<Gateway>(config, listeners).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.address.port()));
    for without in
        [String::new(), text("127.0.0.1:0", ""), text("127.0.0.1:0", "lifecycle = { insecure = true }")]
    {
        fs::write(&file, without).unwrap();
        let problems = reload(&gateway).await;
        assert!(problems.iter().any(|problem| problem.starts_with("auth: cannot go")), "{problems:?}");
        assert_eq!(status(&get(address, "/web/Headers", "").await), "401");
    }
    gateway.stop().await;
}
