//! What is believed, and what is not.

use std::{fs, path::Path};

use proptest::prelude::*;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};

use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Writes a new key and its public part, and returns where they are.
fn make(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let spki = [
        &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0][..],
        pair.public_key().as_ref(),
    ];
    let (key, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
    fs::write(&key, pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
    fs::write(&public, pem("PUBLIC KEY", &spki.concat())).unwrap();
    (key, public)
}

fn own(folder: &Path) -> Keys {
    Keys { key: Some(make(folder, "own").0), ..Keys::default() }
}

fn headers(token: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(IDENTITY_HEADER, token)])
}

fn ada() -> Caller {
    Caller { user: "ada".to_owned(), role: Role::User }
}

fn now() -> u64 {
    seconds(SystemTime::now())
}

fn refusal(result: Result<Caller, MeshError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_is_signed_for_a_service_is_believed_there_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let keys = own(folder.path());
    let signer = keys.signer("gateway").unwrap().unwrap();
    let signed = headers(signer.sign(&ada(), "database").unwrap());
    let database = keys.verifier("database").unwrap().unwrap();
    assert_eq!(database.verify(&signed).unwrap(), ada());
    assert_eq!(database.verify(&signed).unwrap(), ada(), "remembered");
    let queue = keys.verifier("queue").unwrap().unwrap();
    assert!(refusal(queue.verify(&signed)).contains("for another service"));
    assert!(refusal(database.verify(&HeaderMap::new())).contains("the gateway"));
}

#[test]
fn a_stranger_is_not_believed_and_one_that_is_trusted_is() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = make(folder.path(), "gateway");
    let signer = Keys { key: Some(key), ..Keys::default() }.signer("gateway").unwrap().unwrap();
    let signed = headers(signer.sign(&ada(), "database").unwrap());
    let stranger = own(folder.path()).verifier("database").unwrap().unwrap();
    assert!(refusal(stranger.verify(&signed)).contains("nobody known"));
    let trusting = Keys { trusted: vec![public], ..Keys::default() }.verifier("database").unwrap().unwrap();
    assert_eq!(trusting.verify(&signed).unwrap(), ada());
}

#[test]
fn it_ends_and_a_new_one_is_signed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let keys = own(folder.path());
    let (signer, verifier) = (keys.signer("g").unwrap().unwrap(), keys.verifier("d").unwrap().unwrap());
    let began = now();
    let first = signer.sign_at(&ada(), "d", began).unwrap();
    assert_eq!(signer.sign_at(&ada(), "d", began + 29).unwrap(), first);
    assert_ne!(signer.sign_at(&ada(), "d", began + 30).unwrap(), first);
    assert_ne!(signer.sign_at(&ada(), "e", began).unwrap(), first);
    let first = headers(first);
    assert_eq!(verifier.verify_at(&first, began).unwrap(), ada());
    assert_eq!(verifier.verify_at(&first, began + 69).unwrap(), ada());
    assert!(refusal(verifier.verify_at(&first, began + 70)).contains("expired"));
    let signer = keys.signer("g").unwrap().unwrap();
    let old = headers(signer.sign_at(&ada(), "d", began - 71).unwrap());
    assert!(refusal(verifier.verify_at(&old, began)).contains("expired"));
    let signer = keys.signer("g").unwrap().unwrap();
    let early = headers(signer.sign_at(&ada(), "d", began + 3600).unwrap());
    assert!(refusal(verifier.verify_at(&early, began)).contains("too long"));
}

#[test]
fn nothing_else_than_one_sound_identity_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let keys = own(folder.path());
    let (signer, verifier) = (keys.signer("g").unwrap().unwrap(), keys.verifier("d").unwrap().unwrap());
    let good = signer.sign(&ada(), "d").unwrap();
    let mut twice = headers(good.clone());
    twice.append(IDENTITY_HEADER, good.clone());
    assert!(refusal(verifier.verify(&twice)).contains("twice"));
    let mut parts: Vec<String> = good.to_str().unwrap().split('.').map(str::to_owned).collect();
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    // The same claims with no algorithm, and with one that takes the public key for a secret.
    let kid = decode_header(good.as_bytes()).unwrap().kid.unwrap();
    for algorithm in ["none", "HS256", "ES256"] {
        parts[0] = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#));
        let forged = headers(parts.join(".").try_into().unwrap());
        assert!(verifier.verify(&forged).is_err(), "{algorithm}");
    }
    let long = headers(HeaderValue::try_from("a".repeat(MAX_BYTES + 1)).unwrap());
    assert!(refusal(verifier.verify(&long)).contains("too long"));
}

#[test]
fn a_key_is_made_once_and_for_nobody_else_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys { key: Some(folder.path().join("identity.key")), create: true, ..Keys::default() };
    keys.check().unwrap();
    assert!(!folder.path().join("identity.key").exists(), "looking makes nothing");
    let signed = headers(keys.signer("g").unwrap().unwrap().sign(&ada(), "d").unwrap());
    assert_eq!(keys.verifier("d").unwrap().unwrap().verify(&signed).unwrap(), ada());
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let nowhere = Keys { key: Some(folder.path().join("no/identity.key")), create: true, ..Keys::default() };
    assert!(nowhere.signer("g").unwrap_err().to_string().contains("cannot be made"));
}

#[test]
fn keys_that_are_none_are_named_with_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = make(folder.path(), "own");
    let swapped = Keys { key: Some(public.clone()), ..Keys::default() };
    assert!(swapped.check().unwrap_err().to_string().starts_with(&public.display().to_string()));
    let swapped = Keys { trusted: vec![key.clone()], ..Keys::default() };
    assert!(swapped.check().unwrap_err().to_string().starts_with(&key.display().to_string()));
    assert!(!Keys::default().are_configured());
    assert!(Keys::default().verifier("d").unwrap().is_none());
}

proptest! {
    /// No change of a byte is believed.
    #[test]
    fn a_changed_identity_is_refused(at in 0_usize..1000, to in 0x21_u8..0x7f) {
        static SIGNED: std::sync::LazyLock<(Verifier, Vec<u8>, tempfile::TempDir)> = std::sync::LazyLock::new(|| {
            let folder = tempfile::tempdir().unwrap();
            let keys = own(folder.path());
            let token = keys.signer("g").unwrap().unwrap().sign_at(&ada(), "d", now()).unwrap();
            (keys.verifier("d").unwrap().unwrap(), token.as_bytes().to_vec(), folder)
        });
        let (verifier, token, _) = &*SIGNED;
        let mut changed = token.clone();
        let at = at % changed.len();
        prop_assume!(changed[at] != to);
        changed[at] = to;
        let result = verifier.verify(&headers(HeaderValue::from_bytes(&changed).unwrap()));
        // The last character of a part has bits that stand for nothing; the decoder refuses those that are set.
        prop_assert!(result.is_err(), "{}", String::from_utf8_lossy(&changed));
    }
}
