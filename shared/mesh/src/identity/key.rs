//! Ed25519 keys in PEM files.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};

use super::KeyError;

/// What stands before the 32 bytes of a public key (RFC 8410 §4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A private key with its public one.
pub(super) struct Pair {
    pub(super) pkcs8: Vec<u8>,
    pub(super) public: Vec<u8>,
}

/// Reads a private key.
pub(super) fn private(path: &Path) -> Result<Pair, KeyError> {
    let der = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| refuse(path, &error))?;
    let pkcs8 = der.secret_pkcs8_der().to_vec();
    // What OpenSSL writes has no public key beside the private one.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
        .map_err(|_| refuse(path, &"holds no Ed25519 private key"))?;
    let public = pair.public_key().as_ref().to_vec();
    Ok(Pair { pkcs8, public })
}

/// Makes a private key that nobody else can read, unless there is a file.
pub(super) fn create(path: &Path) -> Result<(), KeyError> {
    let failed = |error: &dyn std::fmt::Display| refuse(path, &format!("cannot be made: {error}"));
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|error| failed(&error))?;
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8));
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
    let written = written.and_then(|mut file| {
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        // Whoever comes second takes what is there.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let _ = fs::remove_file(&draft);
    written.map_err(|error| failed(&error))
}

/// Reads a public key.
pub(super) fn public(path: &Path) -> Result<Vec<u8>, KeyError> {
    let der = SubjectPublicKeyInfoDer::from_pem_file(path).map_err(|error| refuse(path, &error))?;
    match der.as_ref().strip_prefix(&PUBLIC_PREFIX) {
        Some(key) if key.len() == 32 => Ok(key.to_vec()),
        _ => Err(refuse(path, &"holds no Ed25519 public key")),
    }
}

/// What tells a key from others: the beginning of its hash.
pub(super) fn id(public: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, public).as_ref().get(..9).unwrap_or_default())
}

fn refuse(path: &Path, problem: &impl ToString) -> KeyError {
    KeyError { path: path.to_owned(), problem: problem.to_string() }
}
