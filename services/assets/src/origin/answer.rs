//! From a request to its answer: what is kept and fresh, what is kept and stale, or a fetch that others may wait for too.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::response::Response;
use http::{HeaderMap, StatusCode, request::Parts};
use tracing::Instrument as _;
use weft_mesh::context;

use super::{
    Inner, Site,
    cacheable::{self, Refusal},
    client::FetchError,
    directives::Directives,
    fetch::{Answer, Kept, Outcome, Trip},
    flight::Waiting,
    freshness::{Rules, State},
    headers,
    object::Object,
    reply::{self, Account, Served, Why},
    target::Target,
    vary::Selection,
};

/// How much longer than a fetch who waits for it does.
const GRACE: Duration = Duration::from_secs(1);

/// How often a request starts over because what it found was gone when it was to be read.
const ATTEMPTS: usize = 3;

/// What a request found that is kept.
struct Found {
    object: Arc<Object>,
    account: Account,
    served: Served,
}

impl Inner {
    /// The answer from what is kept or can be; else why the request is to be passed on.
    pub(super) async fn answer(
        self: &Arc<Self>,
        site: &Arc<Site>,
        target: &Target,
        request: &Parts,
    ) -> Result<(Response, Served), Why> {
        let rules = site.rules(target);
        for _ in 0..ATTEMPTS {
            let found = match self.at_hand(site, target, request, &rules) {
                Some(found) => found,
                None if Directives::of(&request.headers).only_if_cached => {
                    let message = "it is not kept, and the request wants nothing else";
                    let response = reply::refused(StatusCode::GATEWAY_TIMEOUT, "NOT_CACHED", message);
                    return Ok((response, Served::Error));
                }
                None => match self.fetched(site, target, request, &rules).await? {
                    Ok(found) => found,
                    Err(answered) => return Ok(answered),
                },
            };
            if !found.object.selection.fits(&request.headers) {
                // It answers the request of somebody else who waited for it; now it is known what selects.
                continue;
            }
            let (object, account) = (&found.object, &found.account);
            match reply::from_object(&self.store, &self.metrics, object, &rules, request, account).await {
                Ok(Some(response)) => return Ok((response, found.served)),
                Ok(None) => self.store.forget_one(object).await,
                Err(error) => {
                    tracing::debug!(%error, "what is kept of an origin cannot be read");
                    return Err(Why::Store);
                }
            }
        }
        Err(Why::Store)
    }

    /// What is kept and may be given without asking first.
    fn at_hand(
        self: &Arc<Self>,
        site: &Arc<Site>,
        target: &Target,
        request: &Parts,
        rules: &Rules,
    ) -> Option<Found> {
        let object = self.store.find(target.key(), &request.headers)?;
        let (freshness, now) = (object.freshness(rules), SystemTime::now());
        let ttl = freshness.ttl(now);
        let failed = self.marks.failed(target.key());
        let detail = match freshness.state(now) {
            State::Fresh => {
                return Some(Found { object, account: Account::hit(ttl), served: Served::Hit });
            }
            State::WhileRevalidate => "stale-while-revalidate",
            // Known to fail: nobody waits for the next attempt.
            State::IfError if failed.is_some() => "stale-if-error",
            State::IfError | State::Expired => return None,
        };
        let too_early = failed.is_some_and(|(_, too_early)| too_early);
        if !too_early && let Some(sent) = self.selection(target, &request.headers) {
            let trip = Trip { site: site.clone(), target: target.clone(), sent, stale: Some(object.clone()) };
            drop(self.join(trip, rules));
        }
        Some(Found { object, account: Account::stale(ttl, detail), served: Served::Stale })
    }

    /// Fetches, or waits for whoever does: gives what is kept then, or the response there is instead.
    async fn fetched(
        self: &Arc<Self>,
        site: &Arc<Site>,
        target: &Target,
        request: &Parts,
        rules: &Rules,
    ) -> Result<Result<Found, (Response, Served)>, Why> {
        if let Some(refusal) = self.marks.alone(target.key()) {
            return Err(Why::Refused(refusal));
        }
        let sent = self.selection(target, &request.headers).ok_or(Why::Refused(Refusal::Vary))?;
        let stale = self.store.find(target.key(), &request.headers);
        let fwd = if stale.is_some() { "stale" } else { "miss" };
        if let Some((error, true)) = self.marks.failed(target.key())
            && stale.is_none()
            && !matches!(error, FetchError::Status(_))
        {
            return Ok(Err((reply::failed(&error, fwd), Served::Error)));
        }
        let trip = Trip { site: site.clone(), target: target.clone(), sent, stale };
        let (outcome, collapsed) = match self.join(trip, rules) {
            Ok((waiting, collapsed)) => {
                // The fetch has the same limit, and its own end says more than ours.
                let limit = context::remaining(site.config.timeout + GRACE);
                let outcome = tokio::time::timeout(limit, waiting.outcome()).await;
                let outcome = outcome.unwrap_or(Some(Outcome::Failed(FetchError::Timeout)));
                (outcome.unwrap_or(Outcome::Failed(FetchError::Stopping)), collapsed)
            }
            Err(object) => (Outcome::Kept(object, Kept::Found), true),
        };
        match outcome {
            Outcome::Kept(object, kept) => Ok(Ok(found(object, kept, fwd, collapsed, rules))),
            Outcome::Alone(refusal) => Err(Why::Refused(refusal)),
            Outcome::Shared(answer) => self.shared(&answer, target, request, rules, fwd, collapsed).await,
            Outcome::Failed(error) => match self.despite(target, request, rules, None) {
                Some(found) => Ok(Ok(found)),
                None => Ok(Err((reply::failed(&error, fwd), Served::Error))),
            },
        }
    }

    /// What those get who waited for a response that is not kept.
    async fn shared(
        &self,
        answer: &Answer,
        target: &Target,
        request: &Parts,
        rules: &Rules,
        fwd: &str,
        collapsed: bool,
    ) -> Result<Result<Found, (Response, Served)>, Why> {
        let status = answer.status.as_u16();
        if matches!(status, 429 | 500 | 502 | 503 | 504)
            && let Some(found) = self.despite(target, request, rules, Some(status))
        {
            return Ok(Ok(found));
        }
        if !cacheable::is_out_of_order(answer.status) {
            // The origin may have more for this client than for a stranger, or another answer to what it was not told.
            if headers::is_personal(&request.headers) {
                return Err(Why::Refused(answer.refusal));
            }
            if !answer.selection.as_ref().is_some_and(|selection| selection.fits(&request.headers)) {
                return Err(Why::Refused(Refusal::Vary));
            }
        }
        let account = Account::fetched(fwd, status, collapsed).detail(answer.refusal.as_str());
        match reply::from_answer(&self.metrics, answer, &request.method, &account).await {
            Ok(response) => Ok(Err((response, Served::Miss))),
            Err(_) => Err(Why::Refused(Refusal::Spool)),
        }
    }

    /// What is kept and may be given since the origin has failed.
    fn despite(&self, target: &Target, request: &Parts, rules: &Rules, status: Option<u16>) -> Option<Found> {
        let object = self.store.find(target.key(), &request.headers)?;
        let (freshness, now) = (object.freshness(rules), SystemTime::now());
        if freshness.state(now) == State::Expired {
            return None;
        }
        let status = status.map_or(String::new(), |status| format!("; fwd-status={status}"));
        let account = Account(format!("weft; fwd=stale{status}; ttl={}", freshness.ttl(now)));
        Some(Found { object, account: account.detail("stale-if-error"), served: Served::Stale })
    }

    /// Joins the fetch of a target, or begins it on a task of its own; says whether somebody else had. What has become
    /// fresh just now is given instead.
    fn join(self: &Arc<Self>, trip: Trip, rules: &Rules) -> Result<(Waiting<Outcome>, bool), Arc<Object>> {
        let url = trip.target.key();
        let landed = || {
            let object = self.store.find(url, &trip.sent.headers())?;
            (object.freshness(rules).state(SystemTime::now()) == State::Fresh).then_some(object)
        };
        let (waiting, flight) = self.flights.join(&format!("{url} {:?}", trip.sent), landed)?;
        let collapsed = flight.is_none();
        if let Some(flight) = flight {
            let inner = self.clone();
            let fetching = async move { flight.land(inner.fetch(trip).await) };
            self.tasks.spawn(fetching.in_current_span());
        }
        Ok((waiting, collapsed))
    }

    /// What of a client's headers selects among what is kept; `None` when that is too much.
    fn selection(&self, target: &Target, headers: &HeaderMap) -> Option<Selection> {
        Selection::by(self.store.names(target.key()), headers)
    }
}

fn found(object: Arc<Object>, kept: Kept, fwd: &str, collapsed: bool, rules: &Rules) -> Found {
    let ttl = object.freshness(rules).ttl(SystemTime::now());
    let (account, served) = match kept {
        Kept::Found => (Account::hit(ttl), Served::Hit),
        Kept::Fetched => (Account::fetched(fwd, 200, collapsed).stored(), Served::Miss),
        Kept::Unkept => (Account::fetched(fwd, 200, collapsed), Served::Miss),
        Kept::Confirmed => (Account::fetched("stale", 304, collapsed), Served::Revalidated),
    };
    Found { object, account, served }
}
