//! What a pool serves: the names that it is configured with, and those that its servers list.
//!
//! The list is asked for in the background, one request at a time, and what is known serves until something newer is:
//! nobody ever waits for a server that does not answer, but in the first moments of a pool.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header};
use serde_json::value::RawValue;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_balance::Health;
use weft_mesh::pool::Pool;

use super::{
    fetch::{self, Asking, Unanswered},
    key::Key,
    list::{Listed, Merging, entry},
    load,
};
use crate::config::Models;

/// How long the first list of a new pool is waited for, counted from its start and not from any call.
const FIRST_LIST: Duration = Duration::from_secs(2);
/// How soon a list is asked for again after a failure; doubles each time, up to the longest wait.
const RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// How often names that nobody knows may have the list asked for.
const WANTED_INTERVAL: Duration = Duration::from_secs(1);

/// What one pool serves.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pool: Arc<Pool>,
    models: Models,
    key: Key,
    began: Instant,
    list: ArcSwapOption<Listed>,
    /// Whether there has been a list.
    listed: watch::Sender<bool>,
    /// A model was asked for that nobody knows.
    wanted: Notify,
    /// What is wrong with asking for it, once that is logged.
    problem: Mutex<Option<String>>,
}

impl Catalogue {
    /// Of a pool, which is asked until `stop`. `before` is what was known of the same servers until now.
    pub(crate) fn start(
        pool: &Arc<Pool>,
        models: &Models,
        before: Option<&Self>,
        (tasks, stop): (&TaskTracker, CancellationToken),
        connections: &TaskTracker,
    ) -> Arc<Self> {
        let known = before.filter(|_| models.discover).and_then(|before| before.list.load_full());
        let catalogue = Arc::new(Self {
            pool: Arc::clone(pool),
            key: Key::new(models),
            began: Instant::now(),
            listed: watch::Sender::new(known.is_some()),
            list: ArcSwapOption::from(known),
            wanted: Notify::new(),
            problem: Mutex::default(),
            models: models.clone(),
        });
        let asking = || Asking::new(Arc::clone(pool), connections.clone());
        if models.discover || catalogue.key.is_read() {
            let (asking, own, stop) = (asking(), Arc::clone(&catalogue), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(own.follow(asking)).await });
        }
        if let Some(path) = models.load_path.clone() {
            let (asking, own) = (asking(), Arc::clone(&catalogue));
            tasks.spawn(async move {
                let followed = load::follow(&asking, &path, own.models.load_interval, || own.headers());
                stop.run_until_cancelled(followed).await
            });
        }
        catalogue
    }

    /// What the servers are asked with.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.key.put(&mut headers);
        if let Some(host) = self.models.host.as_ref().and_then(|host| HeaderValue::try_from(host).ok()) {
            headers.insert(header::HOST, host);
        }
        headers
    }

    /// Asks again and again.
    async fn follow(&self, asking: Asking) {
        let (mut retry, mut turn) = (RETRY, 0);
        loop {
            let asked = Instant::now();
            self.key.read();
            let failed = self.models.discover && !self.ask(&asking, turn).await;
            // Whoever hangs does not stand before the others for ever, and whoever answers stays.
            turn += usize::from(failed);
            let wait = if failed { retry.min(self.models.refresh) } else { self.models.refresh };
            retry = if failed { (retry * 2).min(LONGEST_RETRY) } else { RETRY };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wanted.notified() => sleep(WANTED_INTERVAL.saturating_sub(asked.elapsed())).await,
            }
        }
    }

    /// Asks once, first the backend whose turn it is; whether that brought a list.
    async fn ask(&self, asking: &Asking, turn: usize) -> bool {
        let path = format!("{}models", self.models.base_path);
        let limits = (self.models.timeout, turn);
        match Box::pin(fetch::list(asking, &path, &self.headers(), limits)).await {
            Ok(list) => {
                self.list.store(Some(Arc::new(list)));
                self.listed.send_replace(true);
                self.note(None);
                true
            }
            Err(problem) => {
                self.note(Some(&problem));
                false
            }
        }
    }

    /// Logs once that there is a problem, and once that there is none any more.
    fn note(&self, problem: Option<&Unanswered>) {
        let mut noted = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (problem.map(ToString::to_string), &*noted) {
            (Some(problem), None) => {
                tracing::warn!(pool = self.pool.name(), problem, "the pool's models cannot be listed");
                *noted = Some(problem);
            }
            (None, Some(_)) => {
                tracing::info!(pool = self.pool.name(), "the pool's models are listed again");
                *noted = None;
            }
            _ => {}
        }
    }

    /// The list, unless it is too old to count.
    fn list(&self) -> Option<Arc<Listed>> {
        self.list.load_full().filter(|list| list.age() < self.models.keep)
    }

    /// How old the list is that counts.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.list().map(|list| list.age())
    }

    /// Waits until there has been a list, but no longer than for the first moments of the pool.
    pub(super) async fn settled(&self) {
        if self.models.discover && !*self.listed.borrow() {
            let mut listed = self.listed.subscribe();
            let _ = timeout_at((self.began + FIRST_LIST).into(), listed.wait_for(|listed| *listed)).await;
        }
    }

    /// Whether a model that is not served today may be without anybody knowing: no list says so.
    pub(super) fn is_unsure(&self) -> bool {
        self.models.names.is_empty() && self.list().is_none()
    }

    /// A model was asked for that nobody serves: perhaps it is new.
    pub(super) fn want(&self) {
        if self.models.discover && self.models.names.is_empty() {
            self.wanted.notify_one();
        }
    }

    /// How well a model fits what is served here, more for better; `None` if it does not.
    pub(super) fn fits(&self, model: &str) -> Option<usize> {
        if self.models.names.is_empty() {
            return self.list().is_some_and(|list| listed_as(&list, model).is_some()).then_some(usize::MAX);
        }
        self.models.names.iter().filter_map(|name| fits(name, model)).max()
    }

    /// Whether a call would find a server now.
    pub(super) fn is_available(&self) -> bool {
        let now = Instant::now();
        self.pool.backends.list().iter().any(|backend| {
            backend.health() != Health::Unhealthy && !backend.draining() && !backend.is_ejected(now)
        })
    }

    /// The name to measure a model by: one that is configured, so that clients cannot make any up.
    pub(super) fn label(&self, model: &str) -> Option<&str> {
        self.models.names.iter().find(|name| *name == model).map(String::as_str)
    }

    /// The entry of a model that is served here.
    pub(super) fn entry(&self, model: &str) -> Option<String> {
        self.fits(model)?;
        let list = self.list();
        let listed = list.as_ref().and_then(|list| listed_as(list, model));
        let own = || self.label(model).map(|model| entry(model, self.pool.name()));
        listed.map(|entry| entry.get().to_owned()).or_else(own)
    }

    /// The same of one that only a `*` stands for.
    pub(super) fn entry_of_any(&self, model: &str) -> Option<String> {
        self.fits(model).map(|_| entry(model, self.pool.name()))
    }

    /// Adds what is served here.
    pub(super) fn merge(&self, into: &mut Merging) {
        if let Some(list) = self.list() {
            for (name, entry) in list.entries().filter(|(name, _)| self.fits(name).is_some()) {
                into.add(name, entry.get());
            }
        }
        for name in self.models.names.iter().filter(|name| !name.ends_with('*')) {
            into.add(name, &entry(name, self.pool.name()));
        }
    }

    /// Puts the servers' key in the place of the client's.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) {
        self.key.put(headers);
    }
}

/// The entry of a model in a list. Ollama lists `name:latest` for what it also serves as `name`.
fn listed_as<'a>(list: &'a Listed, model: &str) -> Option<&'a RawValue> {
    let latest = || list.get(&format!("{model}:latest"));
    list.get(model).or_else(|| if model.contains(':') { None } else { latest() })
}

/// How well a model fits a name: all of it, or so many bytes before the `*`.
fn fits(name: &str, model: &str) -> Option<usize> {
    match name.strip_suffix('*') {
        Some(prefix) => model.starts_with(prefix).then_some(prefix.len()),
        None => (name == model).then_some(usize::MAX),
    }
}
