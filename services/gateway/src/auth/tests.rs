//! What is believed, and what is not.

use std::{fs, path::PathBuf, time::UNIX_EPOCH};

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use weft_testkit::TokenIssuer;

use super::*;

const ISSUER: &str = "https://id.example";

/// Whoever is believed: an issuer, and two keys.
struct Scene {
    folder: TempDir,
    issuer: TokenIssuer,
    auth: Arc<Auth>,
}

impl Scene {
    fn new(change: impl FnOnce(&mut config::Auth)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = TokenIssuer::new("one").unwrap();
        let (jwks, keys) = (folder.path().join("jwks.json"), folder.path().join("keys.toml"));
        fs::write(&jwks, issuer.jwks()).unwrap();
        fs::write(
            &keys,
            key("ada1", "s3cret", "ada", "") + &key("app1", "s3cret", "app", "roles = [\"service\"]"),
        )
        .unwrap();
        let mut config = config::Auth {
            api_keys: Some(keys),
            issuers: vec![config::Issuer {
                issuer: ISSUER.to_owned(),
                audiences: vec!["weft".to_owned(), "chat".to_owned()],
                jwks_file: Some(jwks),
                roles: [("weft-admins".to_owned(), "operator".to_owned())].into(),
                ..config::Issuer::default()
            }],
            ..config::Auth::default()
        };
        change(&mut config);
        let auth = Auth::new(&config, &Fetcher::new().unwrap());
        Self { folder, issuer, auth }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.issuer.sign(&claims).unwrap()
    }

    /// Who may call a path, with these headers, where only `user` may.
    fn caller(&self, headers: &HeaderMap) -> Result<String, String> {
        let roles = ["user", "service", "operator"].map(str::to_owned);
        match self.auth.admit(Allowed::to(&roles), "/a.B/C", headers, None) {
            Admission::Decided(Ok(None)) => Ok("anybody".to_owned()),
            Admission::Decided(Ok(Some(Caller { user, role }))) => Ok(format!("{user}, {}", role.as_str())),
            Admission::Decided(Err(error)) => Err(error.to_string()),
            Admission::Unknown(unknown) => Err(MeshError::from(unknown).to_string()),
        }
    }

    fn bearer(&self, token: &str) -> Result<String, String> {
        self.caller(&shows(&[("authorization", &format!("Bearer {token}"))]))
    }
}

fn key(id: &str, secret: &str, user: &str, more: &str) -> String {
    let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[keys]]\nid = \"{id}\"\nsha256 = \"{hash}\"\nuser = \"{user}\"\n{more}\n")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "weft", "sub": "ada", "exp": now() + 3600 })
}

fn shows(headers: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())
    };
    let mut shown = HeaderMap::new();
    for (name, value) in headers.iter().map(pair) {
        shown.append(name, value);
    }
    shown
}

#[test]
fn a_token_is_believed_for_what_it_says_and_only_as_long_as_it_says() {
    let scene = Scene::new(|_| {});
    assert_eq!(scene.bearer(&scene.token(|_| {})).unwrap(), "ada, user");
    let admins = scene.token(|claims| claims["roles"] = json!(["others", "weft-admins"]));
    assert_eq!(scene.bearer(&admins).unwrap(), "ada, operator");
    let words = scene.token(|claims| claims["roles"] = json!("others weft-admins"));
    assert_eq!(scene.bearer(&words).unwrap(), "ada, operator");
    let unmapped = scene.token(|claims| claims["roles"] = json!(["operator", "service"]));
    assert_eq!(scene.bearer(&unmapped).unwrap(), "ada, user", "only what is mapped counts");
    let several = scene.token(|claims| claims["aud"] = json!(["other", "chat"]));
    assert_eq!(scene.bearer(&several).unwrap(), "ada, user");
    let recent = scene.token(|claims| claims["exp"] = json!(now() - 10));
    assert_eq!(scene.bearer(&recent).unwrap(), "ada, user", "clocks differ");
}

#[test]
fn what_is_wrong_with_a_token_is_said_and_it_is_not_believed() {
    let scene = Scene::new(|_| {});
    let set = |name: &'static str, value: Value| scene.token(move |claims| claims[name] = value);
    let without =
        |name: &'static str| scene.token(move |claims| drop(claims.as_object_mut().unwrap().remove(name)));
    for (token, why) in [
        (set("exp", json!(now() - 40)), "expired"),
        (set("exp", json!("soon")), "lacks"),
        (set("nbf", json!(now() + 60)), "not good yet"),
        (set("aud", json!("other")), "somebody else"),
        (set("aud", json!([])), "somebody else"),
        (set("iss", json!("https://evil.example")), "not believed"),
        (set("iss", json!([ISSUER])), "cannot be read"),
        (set("sub", json!("two words")), "not a user's name"),
        (set("sub", json!("")), "not a user's name"),
        (set("sub", json!(7)), "names no user"),
        (without("sub"), "names no user"),
        (without("exp"), "lacks"),
        (without("aud"), "lacks"),
        (without("iss"), "cannot be read"),
        ("a.b.c".to_owned(), "cannot be read"),
        ("nothing".to_owned(), "cannot be read"),
        (String::new(), "cannot be read"),
        ("x".repeat(MAX_TOKEN_BYTES + 1), "too long"),
    ] {
        let refused = scene.bearer(&token).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn how_a_token_is_signed_is_not_for_the_token_to_say() {
    let scene = Scene::new(|_| {});
    let signed_as = |header: Value| scene.issuer.sign_as(&header, &claims()).unwrap();
    let mallory = TokenIssuer::new("one").unwrap();
    for (token, why) in [
        (signed_as(json!({ "alg": "none", "kid": "one" })), "cannot be read"),
        (signed_as(json!({ "alg": "HS256", "kid": "one" })), "not taken"),
        (signed_as(json!({ "alg": "RS256", "kid": "one" })), "unknown key"),
        (signed_as(json!({ "alg": "EdDSA", "kid": "one" })), "unknown key"),
        (signed_as(json!({ "alg": "ES384", "kid": "one" })), "not taken"),
        (signed_as(json!({ "alg": "ES256", "kid": "two" })), "unknown key"),
        (mallory.sign(&claims()).unwrap(), "signature is wrong"),
        // A key that a token brings along is no key.
        (
            mallory
                .sign_as(&json!({ "alg": "ES256", "kid": "one", "jwk": mallory.jwk() }), &claims())
                .unwrap(),
            "wrong",
        ),
    ] {
        let refused = scene.bearer(&token).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    assert!(scene.bearer(&signed_as(json!({ "alg": "ES256" }))).is_ok(), "there is one key that it can be");
}

#[test]
fn a_key_that_is_revoked_is_worth_nothing_at_the_next_look() {
    let scene = Scene::new(|_| {});
    let (token, api_key) = (scene.token(|_| {}), shows(&[("x-api-key", "weft_ada1_s3cret")]));
    assert!(scene.bearer(&token).is_ok() && scene.caller(&api_key).is_ok());
    fs::write(scene.file("jwks.json"), TokenIssuer::new("two").unwrap().jwks()).unwrap();
    fs::write(scene.file("keys.toml"), key("bob1", "s3cret", "bob", "")).unwrap();
    assert!(scene.bearer(&token).is_ok(), "nobody has looked");
    assert_eq!(scene.auth.refresh_files(), Vec::<String>::new());
    assert!(scene.bearer(&token).unwrap_err().contains("unknown key"));
    assert!(scene.caller(&api_key).unwrap_err().contains("unknown"));
    fs::write(scene.file("jwks.json"), "{}").unwrap();
    fs::write(scene.file("keys.toml"), "?").unwrap();
    assert_eq!(scene.auth.refresh_files().len(), 2);
    assert!(scene.bearer(&token).is_err());
    assert!(
        scene.caller(&shows(&[("x-api-key", "weft_bob1_s3cret")])).is_ok(),
        "what cannot be read changes nothing"
    );
}

/// Keys are shared by what comes after a reload, and whoever reads them last takes them from all.
#[test]
fn a_key_that_is_withdrawn_is_so_whoever_has_seen_it() {
    let scene = Scene::new(|_| {});
    let token = shows(&[("authorization", &format!("Bearer {}", scene.token(|_| {})))]);
    let after = Auth::after(Some(&scene.auth), &scene.auth.config, &Fetcher::new().unwrap());
    assert!(matches!(after.identify(&token, None), Ok(Some(_))));
    fs::write(scene.file("jwks.json"), TokenIssuer::new("two").unwrap().jwks()).unwrap();
    assert_eq!(
        scene.auth.refresh_files(),
        Vec::<String>::new(),
        "the one before looks, not the one in force"
    );
    assert!(matches!(after.identify(&token, None), Err(Doubt::UnknownKey(_))));
}

#[test]
fn a_set_may_have_keys_that_nobody_here_knows() {
    let scene = Scene::new(|_| {});
    let keys = json!({ "keys": [
        { "kty": "XX", "kid": "new" },
        { "kty": "EC", "crv": "P-256", "alg": "ECDH-ES", "use": "enc", "kid": "one", "x": "AA", "y": "AA" },
        7,
        scene.issuer.jwk(),
    ] });
    fs::write(scene.file("jwks.json"), keys.to_string()).unwrap();
    assert_eq!(scene.auth.refresh_files(), Vec::<String>::new());
    assert!(scene.bearer(&scene.token(|_| {})).is_ok());
}

#[test]
fn credentials_are_read_from_one_place() {
    let scene = Scene::new(|_| {});
    assert_eq!(scene.bearer("weft_ada1_s3cret").unwrap(), "ada, user");
    let lower = shows(&[("authorization", "bearer weft_ada1_s3cret")]);
    assert_eq!(scene.caller(&lower).unwrap(), "ada, user");
    for (headers, why) in [
        (vec![], "is needed"),
        (vec![("authorization", "Basic YTpi")], "Bearer"),
        (vec![("authorization", "Bearer")], "cannot be read"),
        (vec![("x-api-key", "s3cret")], "not one"),
        (vec![("x-api-key", "weft_ada1_s3cret"), ("authorization", "Bearer weft_app1_s3cret")], "twice"),
        (
            vec![("authorization", "Bearer weft_ada1_s3cret"), ("authorization", "Bearer weft_app1_s3cret")],
            "twice",
        ),
    ] {
        let refused = scene.caller(&shows(&headers)).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    let no_keys = Scene::new(|auth| auth.api_keys = None);
    assert!(no_keys.bearer("weft_ada1_s3cret").unwrap_err().contains("not taken"));
    let no_tokens = Scene::new(|auth| auth.issuers.clear());
    assert!(no_tokens.bearer(&no_tokens.token(|_| {})).unwrap_err().contains("not taken"));
}

#[test]
fn a_user_acts_for_nobody_else_and_a_service_for_anybody() {
    let scene = Scene::new(|_| {});
    let acts = |key: &str, user: &str| scene.caller(&shows(&[("x-api-key", key), ("weft-user", user)]));
    assert_eq!(acts("weft_ada1_s3cret", "ada").unwrap(), "ada, user");
    assert!(acts("weft_ada1_s3cret", "bob").unwrap_err().contains("nobody else"));
    assert_eq!(acts("weft_app1_s3cret", "bob").unwrap(), "bob, service");
    assert!(acts("weft_app1_s3cret", "two words").is_err());
}

#[test]
fn where_anybody_may_call_nobody_is_asked() {
    let scene = Scene::new(|_| {});
    let anybody = [ANONYMOUS.to_owned()];
    let outcome = |headers: &HeaderMap| match scene.auth.admit(Allowed::to(&anybody), "/a", headers, None) {
        Admission::Decided(Ok(caller)) => caller.map(|caller| caller.user),
        _ => panic!("it was asked"),
    };
    assert_eq!(outcome(&HeaderMap::new()), None);
    assert_eq!(outcome(&shows(&[("authorization", "Bearer of.the.app")])), None);
    assert_eq!(outcome(&shows(&[("authorization", "Basic YTpi")])), None);
    assert_eq!(outcome(&shows(&[("x-api-key", "weft_ada1_s3cret")])), Some("ada".to_owned()));
    for headers in [HeaderMap::new(), shows(&[("authorization", "Bearer a.b.c")])] {
        let Admission::Decided(Err(error)) = scene.auth.admit(Allowed::ANYBODY_KNOWN, "/a", &headers, None)
        else {
            panic!("it was let in");
        };
        assert!(matches!(error, MeshError::Unauthenticated { .. }));
    }
}

#[test]
fn a_key_is_for_what_it_is_for() {
    let scene = Scene::new(|_| {});
    let text = key("job1", "s3cret", "ada", "scopes = [\"weft.queue.v1.*\", \"/v1/*\"]");
    fs::write(scene.file("keys.toml"), text).unwrap();
    scene.auth.refresh_files();
    let headers = shows(&[("x-api-key", "weft_job1_s3cret")]);
    let may = |path: &str| {
        matches!(
            scene.auth.admit(Allowed::ANYBODY_KNOWN, path, &headers, None),
            Admission::Decided(Ok(Some(_)))
        )
    };
    assert!(may("/weft.queue.v1.QueueService/Publish") && may("/v1/models"));
    assert!(!may("/weft.database.v1.ChatService/GetChat") && !may("/v1") && !may("/"));
}

#[test]
fn credentials_go_no_further_than_they_are_meant() {
    let scene = Scene::new(|_| {});
    let left = |headers: &[(&'static str, &str)], to_service: bool| {
        let mut headers = shows(headers);
        scene.auth.take_credentials(&mut headers, to_service);
        headers.len()
    };
    let token = [("authorization", "Bearer a.b.c"), ("x-api-key", "sk-of-the-app")];
    assert_eq!(left(&token, true), 0);
    assert_eq!(left(&token, false), 2, "they are between the client and the app");
    let second = [("authorization", "Bearer a.b.c"), ("authorization", "Bearer weft_ada1_s3cret")];
    assert_eq!(left(&second, false), 0, "wherever it stands");
    let own = [("authorization", "Bearer weft_ada1_s3cret"), ("x-api-key", "weft_ada1_s3cret")];
    assert_eq!(left(&own, false), 0, "the gateway's keys are the gateway's");
    let nobody_asked = Auth::new(&config::Auth::default(), &Fetcher::new().unwrap());
    let mut headers = shows(&token);
    nobody_asked.take_credentials(&mut headers, true);
    assert_eq!(headers.len(), 2);
}

#[test]
fn the_most_of_its_roles_is_what_an_identity_is() {
    let role = |roles: &[&str]| {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Identity::new("ada".to_owned(), roles, None).map(|identity| identity.role)
    };
    assert_eq!(role(&["premium"]).unwrap(), Role::User);
    assert_eq!(role(&["user", "service"]).unwrap(), Role::Service);
    assert_eq!(role(&["service", "operator"]).unwrap(), Role::Operator);
    for wrong in ["anonymous", "", "Operator", "a b"] {
        assert!(role(&[wrong]).is_err(), "{wrong}");
    }
}

proptest! {
    /// Whatever is done to a token's bytes, it is not believed, and nothing breaks.
    #[test]
    fn a_changed_token_is_refused(changes in prop::collection::vec((0_usize..2000, 0x21_u8..0x7f), 1..4)) {
        static SCENE: std::sync::LazyLock<(Scene, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let scene = Scene::new(|_| {});
            let token = scene.token(|_| {}).into_bytes();
            (scene, token)
        });
        let (scene, token) = &*SCENE;
        let mut changed = token.clone();
        for (at, to) in changes {
            let at = at % changed.len();
            changed[at] = to;
        }
        prop_assume!(changed != *token);
        prop_assert!(scene.bearer(&String::from_utf8(changed).unwrap()).is_err());
    }

    /// Any header is read or refused.
    #[test]
    fn any_header_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let scene = Scene::new(|_| {});
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            prop_assert!(scene.caller(&headers).is_err());
        }
    }
}
