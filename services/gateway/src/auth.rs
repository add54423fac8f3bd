//! Who calls, and whether they may: credentials are verified here, once, and what follows from them is plain data.
//!
//! A caller shows an API key or a token (`Authorization: Bearer`, or a key in `X-Api-Key`), or a client certificate. A
//! token is verified once and remembered until it ends, or until any key changes. What is shown and not believed is never
//! passed on.

mod jwks;
mod jwt;
mod keys;
mod operators;
mod rules;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use weft_mesh::{
    context::{Caller, Role, USER_HEADER, is_user_name},
    error::MeshError,
    tls::ClientNames,
};

use crate::config;
pub(crate) use jwks::{Fetcher, check as check_key_set};
pub(crate) use jwt::algorithm;
use jwt::{Issuer, Token};
pub(crate) use keys::{Keys, PREFIX, check as check_keys};
pub(crate) use operators::Operators;
pub(crate) use rules::{ANONYMOUS, Allowed, Calls, Rules};

/// Where API keys may stand beside `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Tokens that are remembered.
const REMEMBERED: usize = 16 * 1024;
/// Longer tokens are none.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Somebody who is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user's name.
    pub(crate) user: String,
    /// All roles held.
    pub(crate) roles: Vec<String>,
    /// What that is to services: the most of it.
    role: Role,
    /// The only calls that may be made; `None` for all.
    scopes: Option<Vec<Calls>>,
}

impl Identity {
    pub(crate) fn new(user: String, roles: Vec<String>, scopes: Option<Vec<Calls>>) -> Result<Self, String> {
        if !is_user_name(&user) {
            return Err("user must be 1 to 128 bytes of printable ASCII without spaces".to_owned());
        }
        if let Some(wrong) = roles.iter().find(|role| !is_role(role)) {
            return Err(format!("\"{wrong}\" is not a role: lower case letters, digits, `-` and `_`"));
        }
        let has = |role: Role| roles.iter().any(|held| held == role.as_str());
        let role = [Role::Operator, Role::Service].into_iter().find(|role| has(*role)).unwrap_or(Role::User);
        Ok(Self { user, roles, role, scopes })
    }

    /// On whose behalf a call is made: its own, or, for those who may do everything, the user that the call names.
    fn acting(&self, headers: &HeaderMap) -> Result<Caller, MeshError> {
        let own = Caller { user: self.user.clone(), role: self.role };
        if !headers.contains_key(USER_HEADER) {
            return Ok(own);
        }
        let named = Caller::named(headers)?.user;
        if named != self.user && !self.role.is_privileged() {
            return Err(MeshError::Denied { problem: "a user acts for nobody else" });
        }
        Ok(Caller { user: named, ..own })
    }
}

/// Whether a text may be a role's name.
pub(crate) fn is_role(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text != ANONYMOUS
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

/// What a call shows.
enum Shown<'a> {
    Nothing,
    Key(&'a str),
    Token(&'a str),
}

/// What a call shows that is not believed.
enum Doubt {
    /// For this reason.
    Refused(&'static str),
    /// Its token names a key that is not known, or not yet.
    UnknownKey(usize),
}

/// Whether a call may be made.
pub(crate) enum Admission {
    /// By whom, or why not.
    Decided(Result<Option<Caller>, MeshError>),
    /// Not before keys have been fetched.
    Unknown(Unknown),
}

/// A token names a key that its issuer does not have, or not yet.
pub(crate) struct Unknown(usize);

impl From<Unknown> for MeshError {
    fn from(_: Unknown) -> Self {
        Self::Unauthenticated { problem: "the token is signed with an unknown key" }
    }
}

/// Who is believed, as a configuration says it.
pub(crate) struct Auth {
    config: config::Auth,
    keys: Option<Keys>,
    issuers: Vec<Arc<Issuer>>,
    certificates: Vec<(String, Arc<Identity>)>,
    /// By their text: what was verified, with which keys of whom. With others it is verified again.
    verified: Cache<String, (Token, Arc<Issuer>, u64)>,
    /// What the log says of files that cannot be used.
    told: Mutex<Vec<String>>,
}

impl Auth {
    /// As a configuration says it. Files are read; what is fetched is not there yet.
    pub(crate) fn new(config: &config::Auth, fetcher: &Fetcher) -> Arc<Self> {
        Self::after(None, config, fetcher)
    }

    /// The same after another one, whose keys count as long as they are where they were.
    pub(crate) fn after(before: Option<&Self>, config: &config::Auth, fetcher: &Fetcher) -> Arc<Self> {
        // Validation has seen to it that the file can be used; one that has changed since is told at the next look.
        let keys = config.api_keys.as_deref().map(|path| Keys::open(path).0);
        let known = |issuer: &config::Issuer| {
            let before = before?;
            let known = before.config.issuers.iter().zip(&before.issuers);
            known.into_iter().find(|(config, _)| *config == issuer).map(|(_, issuer)| Arc::clone(issuer))
        };
        let issuer = |issuer| known(issuer).unwrap_or_else(|| Arc::new(Issuer::new(issuer, fetcher)));
        let issuers = config.issuers.iter().map(issuer).collect();
        let holder = |holder: &config::CertificateHolder| {
            let identity = Identity::new(holder.user.clone(), holder.roles.clone(), None).ok()?;
            Some((holder.name.clone(), Arc::new(identity)))
        };
        let certificates = config.certificates.iter().filter_map(holder).collect();
        Arc::new(Self {
            config: config.clone(),
            keys,
            issuers,
            certificates,
            verified: Cache::new(REMEMBERED),
            told: Mutex::default(),
        })
    }

    pub(crate) const fn is_configured(&self) -> bool {
        self.config.is_configured()
    }

    /// Whether it was made of the same configuration.
    pub(crate) fn says(&self, config: &config::Auth) -> bool {
        // Rules are looked at elsewhere.
        let asks =
            |auth: &config::Auth| (auth.api_keys.clone(), auth.issuers.clone(), auth.certificates.clone());
        asks(&self.config) == asks(config)
    }

    /// On whose behalf a call to a path is made, if it may be; `None` where anybody may and nobody is known.
    pub(crate) fn admit(
        &self,
        allowed: Allowed<'_>,
        path: &str,
        headers: &HeaderMap,
        names: Option<&ClientNames>,
    ) -> Admission {
        if !self.is_configured() {
            return Admission::Decided(Caller::named(headers).map(Some));
        }
        let known = match self.identify(headers, names) {
            // What is shown to a route for everybody is between the caller and whoever is behind it.
            Ok(None) | Err(_) if allowed.is_public() => return Admission::Decided(Ok(None)),
            Err(Doubt::UnknownKey(issuer)) => return Admission::Unknown(Unknown(issuer)),
            Err(Doubt::Refused(problem)) => Err(MeshError::Unauthenticated { problem }),
            Ok(None) => Err(MeshError::Unauthenticated { problem: "an API key or a token is needed" }),
            Ok(Some(identity)) => Ok(identity),
        };
        let permitted = |identity: Arc<Identity>| {
            permit(&identity, allowed.admits(&identity.roles), path, headers).map(Some)
        };
        Admission::Decided(known.and_then(permitted))
    }

    /// Fetches the keys of the issuer whose token names one that is not known.
    pub(crate) async fn fetch_again(&self, unknown: &Unknown) {
        if let Some(issuer) = self.issuers.get(unknown.0) {
            issuer.fetch_again().await;
        }
    }

    /// Who shows these headers, or this certificate; `None` for who shows nothing.
    fn identify(
        &self,
        headers: &HeaderMap,
        names: Option<&ClientNames>,
    ) -> Result<Option<Arc<Identity>>, Doubt> {
        match shown(headers)? {
            Shown::Key(key) => {
                let keys = self.keys.as_ref().ok_or(Doubt::Refused("API keys are not taken here"))?;
                keys.find(key, Timestamp::now()).map(Some).map_err(Doubt::Refused)
            }
            Shown::Token(token) => self.verify(token).map(Some),
            Shown::Nothing => Ok(names.and_then(|names| self.holder(names))),
        }
    }

    fn holder(&self, names: &ClientNames) -> Option<Arc<Identity>> {
        let holder = self.certificates.iter().find(|(name, _)| names.contain(name));
        holder.map(|(_, identity)| Arc::clone(identity))
    }

    fn verify(&self, token: &str) -> Result<Arc<Identity>, Doubt> {
        if self.issuers.is_empty() {
            return Err(Doubt::Refused("tokens are not taken here"));
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Doubt::Refused("the token is too long"));
        }
        let now = SystemTime::now();
        if let Some((verified, issuer, version)) = self.verified.get(token)
            && issuer.version() == version
        {
            return verified.at(now).map_err(Doubt::Refused);
        }
        let claimed = jwt::issuer(token).ok_or(Doubt::Refused("the token cannot be read"))?;
        let issuer = self.issuers.iter().position(|issuer| issuer.is(&claimed));
        let number = issuer.ok_or(Doubt::Refused("the token is of an issuer that is not believed"))?;
        let issuer = self.issuers.get(number).ok_or(Doubt::Refused("there is no such issuer"))?;
        let (verified, version) = issuer.verify(token).map_err(|problem| match problem {
            jwt::Problem::UnknownKey => Doubt::UnknownKey(number),
            jwt::Problem::Refused(problem) => Doubt::Refused(problem),
        })?;
        let identity = verified.at(now).map_err(Doubt::Refused)?;
        self.verified.insert(token.to_owned(), (verified, Arc::clone(issuer), version));
        Ok(identity)
    }

    /// Reads and fetches all keys again, and returns what went wrong.
    pub(crate) async fn refresh(&self) -> Vec<String> {
        let mut problems = self.refresh_files();
        for issuer in &self.issuers {
            problems.extend(issuer.fetch().await.err());
        }
        problems
    }

    /// The same for what is in files. Blocks for as long as they are read.
    pub(crate) fn refresh_files(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.keys.as_ref().map(Keys::refresh) {
            Some(Ok(true)) => tracing::info!("API keys have changed and are in force"),
            Some(Err(error)) => problems.push(format!("auth.api_keys: {error}")),
            Some(Ok(false)) | None => {}
        }
        for issuer in &self.issuers {
            problems.extend(issuer.read().err());
        }
        problems
    }

    /// Reads what is in files again; what cannot be used is told in the log, once.
    pub(crate) fn look_at_files(&self) {
        let problems = self.refresh_files();
        let told = std::mem::replace(
            &mut *self.told.lock().unwrap_or_else(PoisonError::into_inner),
            problems.clone(),
        );
        for problem in problems.iter().filter(|problem| !told.contains(problem)) {
            tracing::warn!(problem, "keys cannot be read, those before stay in force");
        }
    }

    /// Has keys fetched soon, if it is for the lack of them.
    fn want(&self, doubt: &Doubt) {
        if let Doubt::UnknownKey(issuer) = doubt
            && let Some(issuer) = self.issuers.get(*issuer)
        {
            issuer.want();
        }
    }

    /// Whose keys are to be fetched now.
    fn due(&self, now: std::time::Instant) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter().filter(move |issuer| issuer.is_due(now))
    }

    /// Fetches what is due.
    pub(crate) async fn follow(&self) {
        for issuer in self.due(std::time::Instant::now()) {
            if let Err(problem) = issuer.fetch().await {
                tracing::warn!(problem, "keys cannot be fetched, those before stay in force");
            }
        }
    }

    /// Removes what is shown to the gateway and to nobody behind it.
    pub(crate) fn take_credentials(&self, headers: &mut HeaderMap, to_service: bool) {
        if !self.is_configured() {
            return;
        }
        let is_own = |headers: &HeaderMap, name: &HeaderName| {
            let texts = headers.get_all(name).iter().map(|value| value.as_bytes().to_vec());
            texts.into_iter().any(|text| String::from_utf8_lossy(&text).contains(PREFIX))
        };
        for name in [header::AUTHORIZATION, API_KEY] {
            // What is no key of the gateway's may be meant for who is behind it.
            if to_service || is_own(headers, &name) {
                headers.remove(name);
            }
        }
    }
}

impl From<Doubt> for MeshError {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Refused(problem) => Self::Unauthenticated { problem },
            Doubt::UnknownKey(issuer) => Unknown(issuer).into(),
        }
    }
}

fn permit(identity: &Identity, allowed: bool, path: &str, headers: &HeaderMap) -> Result<Caller, MeshError> {
    if !allowed {
        return Err(MeshError::Denied { problem: "no role of the caller's may call this" });
    }
    let in_scope = |scopes: &Vec<Calls>| scopes.iter().any(|calls| calls.match_path(path));
    if !identity.scopes.as_ref().is_none_or(in_scope) {
        return Err(MeshError::Denied { problem: "the API key is not for this" });
    }
    identity.acting(headers)
}

fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Doubt> {
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| Doubt::Refused("it is not text")),
            (Some(_), Some(_)) => Err(Doubt::Refused("credentials are there twice")),
        }
    };
    let bearer = match one(header::AUTHORIZATION)?.map(|text| text.split_once(' ').unwrap_or((text, ""))) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        Some(_) => return Err(Doubt::Refused("no scheme but Bearer is taken")),
        None => None,
    };
    match (bearer, one(API_KEY)?) {
        (Some(key), None) | (None, Some(key)) if key.starts_with(PREFIX) => Ok(Shown::Key(key)),
        (Some(token), None) => Ok(Shown::Token(token)),
        (None, Some(_)) => Err(Doubt::Refused("the API key is not one")),
        (Some(_), Some(_)) => Err(Doubt::Refused("credentials are there twice")),
        (None, None) => Ok(Shown::Nothing),
    }
}

#[cfg(test)]
mod tests;
