//! Tokens: JWT (RFC 7519), signed by somebody who is believed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Identity,
    jwks::{Fetcher, KeySet, Source},
};
use crate::config;

/// Somebody whose tokens are believed.
pub(crate) struct Issuer {
    name: String,
    keys: KeySet,
    validation: Validation,
    leeway: u64,
    user_claim: String,
    roles_claim: String,
    roles: BTreeMap<String, String>,
}

/// A token that was verified.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    identity: Arc<Identity>,
    /// Seconds after 1970 between which it is good, its issuer's leeway included.
    begin: u64,
    end: u64,
}

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It names a key that its issuer does not have, or not yet.
    UnknownKey,
    Refused(&'static str),
}

#[derive(Deserialize)]
struct Times {
    exp: f64,
    nbf: Option<f64>,
}

/// Who a token says has made it; to be believed when it is verified.
pub(super) fn issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let claims = token.split('.').nth(1)?;
    serde_json::from_slice::<Claims>(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok().map(|claims| claims.iss)
}

/// The algorithm of a name.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    name.parse().ok()
}

impl Issuer {
    pub(super) fn new(config: &config::Issuer, fetcher: &Fetcher) -> Self {
        weft_mesh::identity::install_crypto();
        let algorithms: Vec<_> = config.algorithms.iter().filter_map(|name| algorithm(name)).collect();
        let mut validation = Validation { algorithms, validate_nbf: true, ..Validation::default() };
        validation.set_audience(&config.audiences);
        validation.set_issuer(&[&config.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = config.leeway.as_secs();
        let source = match (&config.jwks_url, &config.jwks_file) {
            (Some(url), _) => Source::Url(url.clone()),
            (None, file) => Source::File(file.clone().unwrap_or_else(PathBuf::new)),
        };
        Self {
            keys: KeySet::new(&config.issuer, source, config.refresh, fetcher),
            name: config.issuer.clone(),
            validation,
            leeway: config.leeway.as_secs(),
            user_claim: config.user_claim.clone(),
            roles_claim: config.roles_claim.clone(),
            roles: config.roles.clone(),
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether its keys are to be fetched again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.keys.is_due(now)
    }

    /// Which of its keys are in force.
    pub(super) fn version(&self) -> u64 {
        self.keys.version()
    }

    /// Fetches its keys.
    pub(super) async fn fetch(&self) -> Result<(), String> {
        self.keys.fetch().await
    }

    /// The same because of a token, which anybody can make: not too often.
    pub(super) async fn fetch_again(&self) {
        self.keys.fetch_again().await;
    }

    /// Has its keys fetched soon.
    pub(super) fn want(&self) {
        self.keys.want();
    }

    /// Reads its keys from their file, where they are in one.
    pub(super) fn read(&self) -> Result<(), String> {
        self.keys.read()
    }

    /// Verifies a token of its. Returns with which keys, too.
    pub(super) fn verify(&self, token: &str) -> Result<(Token, u64), Problem> {
        let header = decode_header(token).map_err(|_| Problem::Refused("the token cannot be read"))?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(Problem::Refused("the token is signed in a way that is not taken"));
        }
        let (key, version) = self.keys.find(header.kid.as_deref(), header.alg).ok_or(Problem::UnknownKey)?;
        // Only this way of signing: the family of the key must fit it.
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        let claims = decode::<Value>(token, &key, &validation)
            .map_err(|error| Problem::Refused(told(error.kind())))?;
        Ok((self.token(&claims.claims)?, version))
    }

    fn token(&self, claims: &Value) -> Result<Token, Problem> {
        let Times { exp, nbf } =
            Times::deserialize(claims).map_err(|_| Problem::Refused("the token's times cannot be read"))?;
        let user = claim(claims, &self.user_claim).and_then(Value::as_str);
        let user = user.ok_or(Problem::Refused("the token names no user"))?;
        let held = claim(claims, &self.roles_claim).map_or_else(Vec::new, values);
        let mut roles = vec!["user".to_owned()];
        for role in held.iter().filter_map(|value| self.roles.get(*value)) {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        let identity = Identity::new(user.to_owned(), roles, None)
            .map_err(|_| Problem::Refused("the token's user is not a user's name"))?;
        // Saturating, whatever the claims are.
        let (begin, end) = (nbf.map_or(0, |nbf| nbf as u64), exp as u64);
        Ok(Token {
            identity: Arc::new(identity),
            begin: begin.saturating_sub(self.leeway),
            end: end.saturating_add(self.leeway),
        })
    }
}

impl Token {
    /// Whose it is, at a time.
    pub(super) fn at(&self, now: SystemTime) -> Result<Arc<Identity>, &'static str> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        match now {
            now if now < self.begin => Err("the token is not good yet"),
            now if now >= self.end => Err("the token has expired"),
            _ => Ok(Arc::clone(&self.identity)),
        }
    }
}

/// A claim by its name, or by a way into objects; a name that has dots is a name first.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |value, part| value.get(part)))
}

/// A list of texts, or one text with spaces.
fn values(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

const fn told(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not good yet",
        ErrorKind::InvalidAudience => "the token is for somebody else",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks exp, iss or aud",
        ErrorKind::InvalidAlgorithm => "the token is signed in a way that is not taken",
        _ => "the token cannot be read",
    }
}
