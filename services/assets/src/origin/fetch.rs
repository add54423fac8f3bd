//! One fetch of what may be kept: asked for without a client's credentials, taken in whole, judged, and kept or not.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::Response;

use super::{
    Inner, Site,
    cacheable::{self, Refusal},
    client::{Ask, FetchError},
    directives::Directives,
    freshness::{State, Timing},
    headers,
    marks::Mark,
    object::Object,
    target::Target,
    vary::Selection,
};
use crate::upload::{Received, Upload};

/// From this lifetime on a confirmation is written down; a shorter one is over before it matters.
const LASTING_SECONDS: u64 = 10;

/// What has moved within this part of its time limit is not silent.
const STILL_MOVING: u32 = 4;

/// What a fetch came to, for all who wait for it.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// A response that is kept, and how it came to be.
    Kept(Arc<Object>, Kept),
    /// A response that is not kept, but that nobody who waits may not have.
    Shared(Arc<Answer>),
    /// A response that is for one client only: each asks for itself.
    Alone(Refusal),
    /// None.
    Failed(FetchError),
}

/// How a kept response came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It was in the store.
    Found,
    /// The origin gave it.
    Fetched,
    /// The origin confirmed it.
    Confirmed,
    /// The origin gave it to those who wait; it could be given to nobody else.
    Unkept,
}

/// A response that is not kept.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) received: Received,
    pub(super) refusal: Refusal,
    /// Which requests it answers; `None` when no other than its own.
    pub(super) selection: Option<Selection>,
}

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) site: Arc<Site>,
    pub(super) target: Target,
    /// What of the client's headers the origin is told.
    pub(super) sent: Selection,
    /// What is there already.
    pub(super) stale: Option<Arc<Object>>,
}

/// When a response last moved on.
#[derive(Debug, Default)]
struct Moved(Mutex<Option<Instant>>);

impl Moved {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn within(&self, limit: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < limit)
    }
}

/// What the origin answered.
enum Reply {
    NotModified(HeaderMap, Timing),
    Whole {
        status: StatusCode,
        headers: HeaderMap,
        timing: Timing,
        received: Received,
        refusal: Option<Refusal>,
    },
    Refused(Refusal),
}

impl Inner {
    /// Carries out a fetch.
    pub(super) async fn fetch(&self, trip: Trip) -> Outcome {
        let url = trip.target.key();
        let stale = match &trip.stale {
            Some(stale) => Some(stale.clone()),
            None => {
                self.store.load(url).await;
                self.unchanged(url, self.store.find(url, &trip.sent.headers())).await
            }
        };
        if trip.stale.is_none()
            && let Some(found) = &stale
            && found.freshness(&trip.site.rules(&trip.target)).state(SystemTime::now()) == State::Fresh
        {
            return Outcome::Kept(found.clone(), Kept::Found);
        }
        // Whoever waits has gone by then.
        let seat = tokio::time::timeout(trip.site.config.timeout, trip.site.seats.acquire()).await;
        let _seat = match seat {
            Ok(Ok(seat)) => seat,
            Ok(Err(_)) => return Outcome::Failed(FetchError::Stopping),
            Err(_) => return Outcome::Failed(FetchError::Timeout),
        };
        let outcome = self.ask_and_judge(&trip, stale.as_ref()).await;
        self.remember(url, &outcome);
        outcome
    }

    async fn ask_and_judge(&self, trip: &Trip, stale: Option<&Arc<Object>>) -> Outcome {
        let begun = Instant::now();
        let mut reply = self.ask(trip, stale).await;
        if let (Ok(Reply::NotModified(headers, _)), Some(object)) = (&reply, stale)
            && !confirms(headers, object)
        {
            // It confirmed another response than was asked about.
            self.store.forget_one(object).await;
            reply = self.ask(trip, None).await;
        }
        self.metrics.origin_fetched(begun.elapsed(), reply.as_ref().err().map_or("ok", FetchError::as_str));
        match reply {
            Err(error) => Outcome::Failed(error),
            Ok(Reply::NotModified(headers, timing)) => match stale {
                Some(stale) => self.confirm(trip, stale, &headers, timing).await,
                None => Outcome::Failed(FetchError::Status(StatusCode::NOT_MODIFIED)),
            },
            Ok(Reply::Refused(refusal)) => {
                if !refusal.is_ours() {
                    self.forget(stale).await;
                }
                Outcome::Alone(refusal)
            }
            Ok(Reply::Whole { status, headers, received, refusal: Some(refusal), .. }) => {
                // What the origin has no more is not kept either.
                if !cacheable::is_out_of_order(status) {
                    self.forget(stale).await;
                }
                let selection = Selection::of(&headers, &trip.sent.headers());
                let headers = with_age(&headers);
                Outcome::Shared(Arc::new(Answer { status, headers, received, refusal, selection }))
            }
            Ok(Reply::Whole { headers, timing, received, refusal: None, .. }) => {
                self.keep(trip, stale, &headers, timing, received).await
            }
        }
    }

    /// Asks the origin, and takes in what is for more than one.
    async fn ask(&self, trip: &Trip, stale: Option<&Arc<Object>>) -> Result<Reply, FetchError> {
        let client = &trip.site.client;
        let mut sent = trip.sent.headers();
        sent.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        sent.insert(header::USER_AGENT, HeaderValue::from_static("weft-assets"));
        headers::add_via(&mut sent);
        sent.extend(stale.map(|stale| stale.conditions()).unwrap_or_default());
        let ask = Ask { method: Method::GET, url: trip.target.url.clone(), headers: sent, body: None };
        let limit = trip.site.config.timeout;
        let (deadline, moved) = (Instant::now() + limit, Moved::default());
        let whole = async {
            let requested_at = SystemTime::now();
            let response = client.send(ask).await?;
            let timing = Timing { requested_at, received_at: SystemTime::now() };
            self.take(trip, response, timing, &moved).await
        };
        tokio::select! {
            reply = tokio::time::timeout_at(deadline.into(), whole) => match reply {
                Ok(reply) => reply,
                // Slow, but not silent: whoever wants it may have it as it comes.
                Err(_) if moved.within(limit / STILL_MOVING) => Ok(Reply::Refused(Refusal::TooSlow)),
                Err(_) => Err(FetchError::Timeout),
            },
            () = self.stopping.cancelled() => Err(FetchError::Stopping),
        }
    }

    async fn take(
        &self,
        trip: &Trip,
        response: Response,
        timing: Timing,
        moved: &Moved,
    ) -> Result<Reply, FetchError> {
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Reply::NotModified(headers, timing));
        }
        let max_bytes = trip.site.config.max_bytes;
        let refusal = cacheable::check(&trip.target.path, status, &headers, max_bytes).err();
        if let Some(refusal) = refusal.filter(|refusal| !refusal.is_for_all()) {
            return Ok(Reply::Refused(refusal));
        }
        let mut upload = Upload::new(self.spool.clone(), max_bytes);
        let mut bytes = std::pin::pin!(trip.site.client.bytes(response));
        let mut sent = 0;
        while let Some(chunk) = bytes.try_next().await? {
            moved.now();
            sent += chunk.len() as u64;
            if sent > max_bytes {
                return Ok(Reply::Refused(Refusal::TooLarge));
            }
            if let Err(error) = upload.push(&chunk).await {
                tracing::debug!(%error, "a response cannot be held, and is passed on");
                return Ok(Reply::Refused(Refusal::Spool));
            }
        }
        let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(said) = said.filter(|said| *said != sent) {
            return Err(FetchError::TooShort { sent, said });
        }
        match upload.finish().await {
            Ok(received) => Ok(Reply::Whole { status, headers, timing, received, refusal }),
            Err(_) => Ok(Reply::Refused(Refusal::Spool)),
        }
    }

    async fn keep(
        &self,
        trip: &Trip,
        stale: Option<&Arc<Object>>,
        response: &HeaderMap,
        timing: Timing,
        received: Received,
    ) -> Outcome {
        let Some(selection) = Selection::of(response, &trip.sent.headers()) else {
            self.forget(stale).await;
            return Outcome::Alone(Refusal::Vary);
        };
        let headers = with_age(response);
        let url = trip.target.key();
        let object = Object::new(url.to_owned(), selection, headers, timing, received);
        let state = object.freshness(&trip.site.rules(&trip.target)).state(timing.received_at);
        let useless = state == State::Expired && object.conditions().is_empty();
        // A request that went by meanwhile may have changed it: those who wait may have it, later ones not.
        if useless || self.marks.changed_since(url, timing.requested_at) {
            self.forget(stale).await;
            return Outcome::Kept(Arc::new(object), Kept::Unkept);
        }
        Outcome::Kept(self.store.keep(object), Kept::Fetched)
    }

    /// Takes over what a 304 says.
    async fn confirm(&self, trip: &Trip, stale: &Arc<Object>, said: &HeaderMap, timing: Timing) -> Outcome {
        let mut object = Object::clone(stale);
        object.headers.remove(header::AGE);
        object.headers = headers::refreshed(&object.headers, said);
        object.headers.extend(said.get(header::AGE).map(|age| (header::AGE, age.clone())));
        if !said.contains_key(header::DATE) {
            object.headers.remove(header::DATE);
            let date = HeaderValue::try_from(httpdate::fmt_http_date(timing.received_at));
            object.headers.extend(date.ok().map(|date| (header::DATE, date)));
        }
        object.timing = timing;
        let directives = Directives::of(&object.headers);
        if directives.no_store || directives.private {
            self.store.forget_one(stale).await;
            return Outcome::Kept(Arc::new(object), Kept::Confirmed);
        }
        let lifetime = object.freshness(&trip.site.rules(&trip.target)).lifetime();
        let refreshed = self.store.refresh(&object, lifetime.as_secs() >= LASTING_SECONDS);
        Outcome::Kept(refreshed.unwrap_or_else(|| Arc::new(object)), Kept::Confirmed)
    }

    /// What was loaded, unless a request has changed what is behind the URL since: its record may have been read before it
    /// was deleted.
    async fn unchanged(&self, url: &str, loaded: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let loaded = loaded?;
        if self.marks.changed_since(url, loaded.timing.requested_at) {
            self.store.forget_one(&loaded).await;
            return None;
        }
        Some(loaded)
    }

    async fn forget(&self, stale: Option<&Arc<Object>>) {
        if let Some(stale) = stale {
            self.store.forget_one(stale).await;
        }
    }

    /// Remembers for a moment what others need not find out again.
    fn remember(&self, url: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Kept(..) => self.marks.clear(url),
            Outcome::Alone(refusal) => self.marks.set(url, Mark::alone(*refusal)),
            Outcome::Failed(FetchError::Stopping) => {}
            Outcome::Failed(error) => self.marks.set(url, Mark::failed(error.clone())),
            Outcome::Shared(answer) if cacheable::is_out_of_order(answer.status) => {
                self.marks.set(url, Mark::failed(FetchError::Status(answer.status)));
            }
            Outcome::Shared(_) => self.marks.clear(url),
        }
    }
}

/// What is kept of a response's headers, and its age when it came, from which later ages are counted.
fn with_age(response: &HeaderMap) -> HeaderMap {
    let mut headers = headers::kept(response);
    headers.extend(response.get(header::AGE).map(|age| (header::AGE, age.clone())));
    headers
}

/// Whether a 304 is about the response that was asked about (RFC 9111, section 4.3.4).
fn confirms(said: &HeaderMap, object: &Object) -> bool {
    match (said.get(header::ETAG), object.headers.get(header::ETAG)) {
        (Some(said), Some(had)) => opaque(said) == opaque(had),
        _ => true,
    }
}

/// An entity tag but for its weakness.
fn opaque(tag: &HeaderValue) -> &[u8] {
    let tag = tag.as_bytes().trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}
