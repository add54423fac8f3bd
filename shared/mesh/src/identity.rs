//! Who calls, so that it can be believed: a name and a role, signed for one service and for a short time.
//!
//! The gateway signs for callers that it has authenticated, a service for itself when it calls another one. On the wire
//! it is metadata, `weft-identity`: a JWT (RFC 7519) signed with Ed25519 (RFC 8037), whose claims are `sub` the user,
//! `role`, `aud` the service it is for, `iss` who signed, `iat`, and `exp` a minute later at the most. So what one
//! service was told cannot be told to another, and what leaks is soon worth nothing.
//!
//! Signing and verifying take tens of microseconds, so both remember: a bounded number of them, until shortly before
//! they end.

mod crypto;
mod key;

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, header::HeaderName};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

pub use crypto::install as install_crypto;

use crate::{
    context::{Caller, Role, is_user_name},
    error::MeshError,
};

/// The metadata key of a signed identity.
pub const IDENTITY_HEADER: HeaderName = HeaderName::from_static("weft-identity");
/// How long one is good for.
const LIFETIME: Duration = Duration::from_secs(60);
/// With so much of it left a new one is made: calls wait on the way, and clocks differ.
const RENEW: Duration = Duration::from_secs(30);
/// How much clocks may differ.
const LEEWAY: Duration = Duration::from_secs(10);
/// How many are remembered.
const REMEMBERED: usize = 16 * 1024;
/// Longer ones are none.
const MAX_BYTES: usize = 2048;

/// The keys of a process, as they are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// A PEM file with an Ed25519 private key (PKCS #8), with which it signs. Default: none. `weft up` makes one.
    pub key: Option<PathBuf>,
    /// Makes the key where its file is not there yet. Default false; `weft up` sets it.
    pub create: bool,
    /// PEM files with the public keys of those whose signatures it believes, beside its own. Default: none.
    pub trusted: Vec<PathBuf>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct KeyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Keys {
    /// Whether there are any: then callers are authenticated.
    #[must_use]
    pub const fn are_configured(&self) -> bool {
        self.key.is_some() || !self.trusted.is_empty()
    }

    /// What is wrong with them, their files included.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), KeyError> {
        let is_there = |path: &&PathBuf| !self.create || path.exists();
        self.key.iter().filter(is_there).try_for_each(|path| key::private(path).map(drop))?;
        self.trusted.iter().try_for_each(|path| key::public(path).map(drop))
    }

    /// The private key, made if that is asked for.
    fn pair(&self) -> Result<Option<key::Pair>, KeyError> {
        let Some(path) = &self.key else { return Ok(None) };
        if self.create && !path.exists() {
            key::create(path)?;
        }
        key::private(path).map(Some)
    }

    /// Signs as `issuer`; `None` without a key.
    ///
    /// # Errors
    /// When the file holds no such key.
    pub fn signer(&self, issuer: &str) -> Result<Option<Signer>, KeyError> {
        let Some(pair) = self.pair()? else { return Ok(None) };
        let header = Header { kid: Some(key::id(&pair.public)), ..Header::new(Algorithm::EdDSA) };
        let key = EncodingKey::from_ed_der(&pair.pkcs8);
        install_crypto();
        Ok(Some(Signer { issuer: issuer.to_owned(), header, key, signed: Cache::new(REMEMBERED) }))
    }

    /// Verifies what is meant for `audience`; `None` when nobody is trusted.
    ///
    /// # Errors
    /// When a file holds no such key.
    pub fn verifier(&self, audience: &str) -> Result<Option<Verifier>, KeyError> {
        if !self.are_configured() {
            return Ok(None);
        }
        let own = self.pair()?.map(|pair| Ok(pair.public));
        let publics = own.into_iter().chain(self.trusted.iter().map(|path| key::public(path)));
        let keys =
            publics.map(|public| public.map(|public| (key::id(&public), DecodingKey::from_ed_der(&public))));
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "sub", "aud", "iss"]);
        validation.leeway = LEEWAY.as_secs();
        install_crypto();
        Ok(Some(Verifier {
            keys: keys.collect::<Result<_, _>>()?,
            validation,
            verified: Cache::new(REMEMBERED),
        }))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    role: Role,
    iat: u64,
    exp: u64,
}

/// Signs identities.
pub struct Signer {
    issuer: String,
    header: Header,
    key: EncodingKey,
    /// By service, role and user: what was signed, and when it is to be renewed.
    signed: Cache<String, (HeaderValue, u64)>,
}

impl Signer {
    /// A caller's identity for a service.
    ///
    /// # Errors
    /// [`MeshError::Identity`], which no sound caller and key meet.
    pub fn sign(&self, caller: &Caller, audience: &str) -> Result<HeaderValue, MeshError> {
        self.sign_at(caller, audience, seconds(SystemTime::now()))
    }

    fn sign_at(&self, caller: &Caller, audience: &str, now: u64) -> Result<HeaderValue, MeshError> {
        // A user's name has no spaces.
        let name = format!("{audience} {} {}", caller.role.as_str(), caller.user);
        // Made in what a clock that was set back calls the future, it would be refused.
        let is_fresh = |renew: u64| now < renew && renew - now <= (LIFETIME - RENEW).as_secs();
        if let Some((signed, _)) = self.signed.get(&name).filter(|(_, renew)| is_fresh(*renew)) {
            return Ok(signed);
        }
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: caller.user.clone(),
            aud: audience.to_owned(),
            role: caller.role,
            iat: now,
            exp: now + LIFETIME.as_secs(),
        };
        let signed = encode(&self.header, &claims, &self.key).ok().and_then(|token| token.try_into().ok());
        let mut signed: HeaderValue = signed.ok_or(MeshError::Identity { problem: "could not be signed" })?;
        signed.set_sensitive(true);
        self.signed.insert(name, (signed.clone(), now + (LIFETIME - RENEW).as_secs()));
        Ok(signed)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Verifies identities.
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
    /// By their text: whose they are, and when they end.
    verified: Cache<String, (Caller, u64)>,
}

impl Verifier {
    /// Whose call it is, by its metadata.
    ///
    /// # Errors
    /// [`MeshError::Unauthenticated`] without an identity, [`MeshError::Identity`] for one that is not to be believed.
    pub fn verify(&self, headers: &HeaderMap) -> Result<Caller, MeshError> {
        self.verify_at(headers, seconds(SystemTime::now()))
    }

    fn verify_at(&self, headers: &HeaderMap, now: u64) -> Result<Caller, MeshError> {
        let refuse = |problem| MeshError::Identity { problem };
        let mut all = headers.get_all(IDENTITY_HEADER).iter();
        let token = match (all.next(), all.next()) {
            (None, _) => {
                return Err(MeshError::Unauthenticated { problem: "this port takes calls of the gateway" });
            }
            (Some(token), None) => token.to_str().map_err(|_| refuse("is not text"))?,
            (Some(_), Some(_)) => return Err(refuse("is there twice")),
        };
        if token.len() > MAX_BYTES {
            return Err(refuse("is too long"));
        }
        if let Some((caller, end)) = self.verified.get(token) {
            return if now < end { Ok(caller) } else { Err(refuse("has expired")) };
        }
        let kid = decode_header(token).ok().and_then(|header| header.kid);
        let key = kid.and_then(|kid| self.keys.get(&kid)).ok_or(refuse("is signed by nobody known here"))?;
        let claims =
            decode::<Claims>(token, key, &self.validation).map_err(|error| refuse(problem(&error)))?.claims;
        if claims.exp > now + (LIFETIME + LEEWAY).as_secs() {
            return Err(refuse("is good for too long"));
        }
        if !is_user_name(&claims.sub) {
            return Err(refuse("names no user"));
        }
        let caller = Caller { user: claims.sub, role: claims.role };
        self.verified.insert(token.to_owned(), (caller.clone(), claims.exp + LEEWAY.as_secs()));
        Ok(caller)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}

fn problem(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::InvalidAudience => "is for another service",
        ErrorKind::InvalidSignature => "has a wrong signature",
        ErrorKind::InvalidAlgorithm => "is not signed with Ed25519",
        _ => "cannot be read",
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
