//! The keys of an issuer (JWKS, RFC 7517): fetched, kept while its server is away, and fetched anew when a token names
//! one that is not known.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http_body_util::BodyExt as _;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
use tokio::sync::Semaphore;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Larger sets are none.
const MAX_BYTES: usize = 1024 * 1024;
/// How much sooner than by itself a set is fetched because of a token.
const SHARE: u32 = 10;
/// Calls that wait for keys; further ones are refused, since anybody can name a key.
const MAX_WAITING: usize = 256;
/// More keys are not looked at.
const MAX_KEYS: usize = 128;

/// Fetches over HTTP. Clones are the same.
#[derive(Clone)]
pub(crate) struct Fetcher(reqwest::Client);

impl Fetcher {
    /// One that follows no redirects and keeps no connections.
    pub(crate) fn new() -> anyhow::Result<Self> {
        weft_runtime::install_tls_provider();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self(client))
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let response = self.0.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let response: http::Response<reqwest::Body> =
            response.map_err(|error| error.without_url().to_string())?.into();
        let body = http_body_util::Limited::new(response.into_body(), MAX_BYTES).collect();
        Ok(body.await.map_err(|error| error.to_string())?.to_bytes().into())
    }
}

/// Where keys are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Url(String),
    File(PathBuf),
}

/// The keys of one issuer.
pub(super) struct KeySet {
    issuer: String,
    source: Source,
    fetcher: Fetcher,
    refresh: Duration,
    current: ArcSwap<Known>,
    /// One fetch at a time.
    turn: tokio::sync::Mutex<()>,
    asked: Mutex<Asked>,
    /// Those who wait for a fetch that they have caused.
    waiting: Semaphore,
}

#[derive(Default)]
struct Known {
    /// As it was read.
    text: Vec<u8>,
    keys: Vec<Key>,
    /// Counts the changes.
    version: u64,
}

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The only way in which it signs; `None` for any of its family.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// When keys were asked for.
#[derive(Default)]
struct Asked {
    last: Option<Instant>,
    failures: u32,
    /// Somebody has shown a token that names another key.
    wanted: bool,
}

impl KeySet {
    pub(super) fn new(issuer: &str, source: Source, refresh: Duration, fetcher: &Fetcher) -> Self {
        let set = Self {
            issuer: issuer.to_owned(),
            source,
            fetcher: fetcher.clone(),
            refresh,
            current: ArcSwap::default(),
            turn: tokio::sync::Mutex::default(),
            asked: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        };
        // Validation has read it; what has changed since is told at the next look.
        let _ = set.read();
        set
    }

    /// Which keys are in force.
    pub(super) fn version(&self) -> u64 {
        self.current.load().version
    }

    /// The key for a token, and of which version it is. One without a name is found when only one key fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<(DecodingKey, u64)> {
        let known = self.current.load();
        let fits = |key: &&Key| {
            key.algorithm.is_none_or(|only| only == algorithm)
                && key.key.family().algorithms().contains(&algorithm)
        };
        let mut fitting = known.keys.iter().filter(fits);
        let found = match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => match (fitting.next(), fitting.next()) {
                (Some(key), None) => Some(key),
                _ => None,
            },
        };
        found.map(|key| (key.key.clone(), known.version))
    }

    /// Whether it is time to fetch: after `refresh`, sooner after failures and at the beginning.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        if matches!(self.source, Source::File(_)) {
            return false;
        }
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = match asked.failures {
            0 if asked.wanted => self.refresh / SHARE,
            0 => self.refresh,
            failures => self.refresh.min(Duration::from_secs(1 << failures.min(6))),
        };
        asked.last.is_none_or(|last| now.saturating_duration_since(last) >= patience)
    }

    /// Reads the file, where it is one.
    pub(super) fn read(&self) -> Result<(), String> {
        let Source::File(path) = &self.source else { return Ok(()) };
        let text = fs::read(path).map_err(|error| self.refuse(&format!("{}: {error}", path.display())))?;
        self.take(&text).map_err(|error| self.refuse(&format!("{}: {error}", path.display())))
    }

    /// Fetches or reads the keys. What cannot be had leaves those before in force.
    pub(super) async fn fetch(&self) -> Result<(), String> {
        let Source::Url(url) = &self.source else { return self.read() };
        let _turn = self.turn.lock().await;
        let fetched = self.fetcher.get(url).await.and_then(|text| self.take(&text));
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        (asked.last, asked.wanted) = (Some(Instant::now()), false);
        asked.failures = if fetched.is_ok() { 0 } else { asked.failures.saturating_add(1) };
        fetched.map_err(|error| self.refuse(&error))
    }

    /// Has them fetched soon.
    pub(super) fn want(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).wanted = true;
    }

    /// Fetches because of a token: at the most every tenth of `refresh`. Whoever comes meanwhile waits for the same
    /// answer, if not too many do.
    pub(super) async fn fetch_again(&self) {
        let asked = || self.asked.lock().unwrap_or_else(PoisonError::into_inner).last;
        let before = asked();
        if before.is_some_and(|last| last.elapsed() < self.refresh / SHARE) {
            return;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return };
        let turn = self.turn.lock().await;
        let is_news = asked() != before;
        drop(turn);
        if !is_news && let Err(problem) = self.fetch().await {
            tracing::warn!(problem, "keys cannot be fetched, those before stay in force");
        }
    }

    fn take(&self, text: &[u8]) -> Result<(), String> {
        let known = self.current.load();
        if !known.keys.is_empty() && known.text == text {
            return Ok(());
        }
        let keys = read(text)?;
        tracing::info!(issuer = self.issuer, keys = keys.len(), "the issuer's keys are in force");
        // Two may read a file at once: each change is counted all the same.
        self.current.rcu(|known| Known {
            text: text.to_vec(),
            keys: keys.clone(),
            version: known.version + 1,
        });
        Ok(())
    }

    fn refuse(&self, problem: &str) -> String {
        format!("keys of {}: {problem}", self.issuer)
    }
}

/// Checks that a file holds keys.
pub(crate) fn check(path: &std::path::Path) -> Result<(), String> {
    fs::read(path).map_err(|error| error.to_string()).and_then(|text| read(&text).map(drop))
}

fn read(text: &[u8]) -> Result<Vec<Key>, String> {
    /// A set may have keys of kinds that nobody here knows.
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(text).map_err(|_| "it is no JSON Web Key Set".to_owned())?;
    let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok());
    let keys: Vec<_> = jwks.filter_map(|jwk| Key::new(&jwk)).collect();
    if keys.is_empty() { Err("it has no key that can be used".to_owned()) } else { Ok(keys) }
}

impl Key {
    /// A key that verifies; `None` for others, which a set may have as well.
    fn new(jwk: &Jwk) -> Option<Self> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return None;
        }
        let algorithm = match jwk.common.key_algorithm {
            None => None,
            Some(name) => Some(name.to_string().parse().ok()?),
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { id: jwk.common.key_id.clone(), algorithm, key })
    }
}
