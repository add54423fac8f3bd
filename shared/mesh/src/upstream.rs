//! One owner's connections to a pool, and calls on them: sent to the backend picked, and sent again as far as that is
//! safe.
//!
//! Each worker thread of the gateway has its own, so that no connection is locked by two threads. What is decided — the
//! pick, the verdict on an attempt, whether to send again — is `weft-balance`'s; this asks and obeys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::{sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tracing::{Span, field::Empty};
use weft_balance::{
    Backend,
    retry::{self, Attempt, Decision, History},
    verdict::{Blame, Cause, Code, Ending, How, Timeout, Verdict, classify},
};

mod address;
mod aside;
mod returning;

pub use returning::Returning;

use crate::{
    BoxError, Keeper, Merged, Replay, Tracked,
    error::MeshError,
    lease::Lease,
    link::{Link, LinkBody, LinkError, Wire},
    pool::{Pool, count},
    terms::{Course, Terms},
    trace,
};

/// How long the headers of a response wait for its first frame, while the request goes on.
const PEEK_TIME: Duration = Duration::from_millis(20);

/// How often a call was sent before, for its backend (gRFC A6).
const PREVIOUS_ATTEMPTS: http::HeaderName = http::HeaderName::from_static("grpc-previous-rpc-attempts");

/// One owner's connections to a pool.
pub struct Upstream<B> {
    pool: Arc<Pool>,
    /// As it was when this was made.
    wire: Wire,
    tasks: TaskTracker,
    links: Mutex<HashMap<String, Arc<Link<B>>>>,
}

/// The body of a response from a pool.
pub type ResponseBody<B> = Merged<Tracked<Returning<B>>>;

type Outcome<B> = Result<Response<ResponseBody<B>>, MeshError>;

/// An attempt that ended, or whose response can still be taken back.
struct Ended<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    verdict: Verdict,
    outcome: Outcome<B>,
}

/// A call on its way through its attempts.
struct Call<'a, B> {
    upstream: &'a Upstream<B>,
    terms: &'a Terms,
    parts: http::request::Parts,
    keeper: Keeper<B>,
    history: History,
    /// What the caller's own header says.
    callers_attempts: u32,
    tried: Vec<Arc<Backend>>,
}

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Connections are made when calls need them, and run on `tasks`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        let wire = Wire::of(&pool.settings());
        Self { pool, wire, tasks, links: Mutex::new(HashMap::new()) }
    }

    /// The pool called.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Sends a call to a backend of the pool and waits for its response headers, or its first frame where the terms say
    /// so. It is sent again, to another backend where there is one, as long as it was certainly not executed, or when
    /// the terms call it idempotent and the pool's retry policy and budget allow it. `course` tells what happened.
    ///
    /// Dropping the future, or the body, cancels the call at the backend.
    ///
    /// # Errors
    /// `NO_HEALTHY_BACKENDS`, the failure of the last attempt, or that the time is over. A response that says so itself
    /// is passed on as it is.
    pub async fn call(
        &self,
        request: Request<Replay<B>>,
        terms: &Terms,
        course: &mut Course,
    ) -> Result<Response<ResponseBody<B>>, MeshError> {
        let (parts, body) = request.into_parts();
        let callers =
            parts.headers.get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut call = Call {
            upstream: self,
            terms,
            parts,
            keeper: body.keeper(),
            history: History::default(),
            callers_attempts: callers.unwrap_or(0),
            tried: Vec::new(),
        };
        let _counted = self.pool.budget.call();
        let outcome = call.run(body, course).await;
        call.keeper.commit();
        outcome
    }

    fn link(&self, backend: &Arc<Backend>) -> Arc<Link<B>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(backend.address()) {
            return Arc::clone(link);
        }
        // A new address is the moment to forget those that are gone; their connections close with their last call.
        let list = self.pool.backends.list();
        links.retain(|address, _| list.iter().any(|backend| backend.address() == address));
        let link = Arc::new(Link::new(
            backend.address(),
            self.wire.clone(),
            Arc::clone(&self.pool),
            self.tasks.clone(),
        ));
        links.insert(backend.address().to_owned(), Arc::clone(&link));
        link
    }
}

impl<B> Call<'_, B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn run(&mut self, mut body: Replay<B>, course: &mut Course) -> Outcome<B> {
        let tally = &self.upstream.pool.tally;
        // What an earlier attempt met with; says more than that a later one had too little time, or found nobody left.
        let mut before: Option<Outcome<B>> = None;
        let mut place: Option<retry::Retry> = None;
        loop {
            let lease = match self.lease(course).await {
                Ok(lease) => lease,
                Err(error) => return before.unwrap_or(Err(error)),
            };
            course.attempts += 1;
            count(&tally.total);
            course.backend = Some(Arc::clone(lease.backend()));
            self.tried.push(Arc::clone(lease.backend()));
            let began = Instant::now();
            let ended = match self.attempt(lease, body).await {
                Ok(response) => {
                    if before.is_some() {
                        count(&tally.retry_success);
                    }
                    return Ok(response);
                }
                Err(ended) => ended,
            };
            course.verdict = Some(ended.verdict);
            drop(place.take());
            let (again, taken) = self.again(&ended.verdict, began, course);
            let Some((next, after)) = again else { return settled(ended, before) };
            (body, place) = (next, taken);
            if let Some(after) = after {
                before = Some(ended.outcome);
                tokio::time::sleep(after).await;
            }
        }
    }

    /// Decides on another attempt: its body, its wait if it is not transparent, and its place in the budget.
    #[allow(clippy::type_complexity, reason = "named, it would be read once, here")]
    fn again(
        &mut self,
        verdict: &Verdict,
        began: Instant,
        course: &mut Course,
    ) -> (Option<(Replay<B>, Option<Duration>)>, Option<retry::Retry>) {
        let pool = &self.upstream.pool;
        let decision = self.decide(verdict, began.elapsed(), self.keeper.can_repeat());
        let silent = course.backend.as_ref().is_some_and(|backend| !backend.has_answered_since(began));
        let free = retry::is_free(verdict, self.history, silent);
        let (decision, place) = if free { (decision, None) } else { pool.budget.claim(decision) };
        match (decision, self.next(decision)) {
            (Decision::Again { after, transparent }, Some(next)) => {
                self.history = self.history.sent_again(verdict, transparent);
                // Whoever closed an idle connection is as good as the next one.
                if verdict.cause == Cause::ClosedUnsent {
                    self.tried.pop();
                }
                count(if transparent { &pool.tally.transparent_retry } else { &pool.tally.retry });
                (Some((next, (!transparent).then_some(after))), place)
            }
            (Decision::Stop(why), _) => {
                pool.tally.stopped(why);
                course.stopped = Some(why);
                (None, None)
            }
            (Decision::Again { .. }, None) => (None, None),
        }
    }

    /// The request again, if that is decided.
    fn next(&self, decision: Decision) -> Option<Replay<B>> {
        if matches!(decision, Decision::Again { .. }) { self.keeper.again() } else { None }
    }

    /// A place at a backend that was not tried, or, when a repetition finds none, at any.
    async fn lease(&mut self, course: &mut Course) -> Result<Lease, MeshError> {
        let pool = &self.upstream.pool;
        let asked = Instant::now();
        let mut leased = self.within(pool.lease(&self.tried, self.terms, self.keeper.progress())).await;
        if !self.tried.is_empty() && matches!(leased, Ok(Err(_))) {
            self.tried.clear();
            leased = self.within(pool.lease(&self.tried, self.terms, self.keeper.progress())).await;
        }
        course.queued += asked.elapsed();
        leased.unwrap_or_else(|timeout| Err(self.late(timeout)))
    }

    fn decide(&self, verdict: &Verdict, took: Duration, replayable: bool) -> Decision {
        let pool = &self.upstream.pool;
        let backends = u32::try_from(pool.backends.list().len()).unwrap_or(u32::MAX);
        let attempt = Attempt {
            verdict,
            history: self.history,
            backends,
            idempotent: self.terms.idempotent,
            passed_on: false,
            replayable,
            took,
            deadline: &self.terms.deadline,
            now: Instant::now(),
            random: fastrand::u32(..),
        };
        retry::decide(&pool.settings().retry, &attempt)
    }

    /// Sends the call once: a response to be passed on, or how it failed.
    async fn attempt(
        &self,
        mut lease: Lease,
        body: Replay<B>,
    ) -> Result<Response<ResponseBody<B>>, Ended<B>> {
        let pool = &self.upstream.pool;
        let backend = Arc::clone(lease.backend());
        let mut request = Request::from_parts(self.parts.clone(), body);
        if self.terms.trace_attempts {
            lease.traced(self.span(&backend));
        }
        self.prepare(&mut request, &lease);
        let link = self.upstream.link(&backend);
        let sent = self.within(self.in_time(link.send(request))).await.flatten();
        let (how, error) = match sent {
            Ok(Ok(response)) => {
                return self.answered(tracked(response, lease, &link, pool, self.terms)).await;
            }
            Ok(Err(LinkError { how, source })) => {
                let (pool, backend) = (pool.name().to_owned(), backend.address().to_owned());
                let error = if classify(&Ending::from(how)).executed.never() {
                    MeshError::NoHealthyBackends { pool }
                } else {
                    MeshError::Backend { pool, backend, source }
                };
                (how, error)
            }
            Err(timeout) => (How::TimedOut(timeout), self.late(timeout)),
        };
        let verdict = lease.settle(how);
        Err(Ended { verdict, outcome: Err(error) })
    }

    /// Looks whether a response may be passed on, or whether the call should be sent again for what it says.
    async fn answered(
        &self,
        mut response: Response<ResponseBody<B>>,
    ) -> Result<Response<ResponseBody<B>>, Ended<B>> {
        let mut late = None;
        if self.terms.peek
            && let Err(timeout) = self.within(self.peek(response.body_mut())).await
        {
            response.body_mut().inner_mut().cut(How::TimedOut(timeout));
            late = Some(timeout);
        }
        let verdict = response.body().inner().verdict();
        if let (Some(verdict), Some(timeout)) = (verdict, late) {
            return Err(Ended { verdict, outcome: Err(self.late(timeout)) });
        }
        match verdict {
            Some(verdict) if verdict.blame != Blame::Success => Err(Ended { verdict, outcome: Ok(response) }),
            _ => Ok(response),
        }
    }

    /// One attempt, as a client's span.
    fn span(&self, backend: &Backend) -> Span {
        let (address, attempt, path) = (backend.address(), self.tried.len(), self.parts.uri.path());
        if self.terms.grpc {
            let method = path.trim_start_matches('/');
            tracing::info_span!(
                "attempt",
                otel.name = method,
                otel.kind = "client",
                rpc.system.name = "grpc",
                rpc.method = method,
                server.address = address,
                weft.attempt = attempt,
                rpc.response.status_code = Empty,
            )
        } else {
            let method = self.parts.method.as_str();
            tracing::info_span!(
                "attempt",
                otel.name = method,
                otel.kind = "client",
                http.request.method = method,
                url.path = path,
                server.address = address,
                weft.attempt = attempt,
            )
        }
    }

    /// Waits for the end of a small answer, since its client waits for that too: what breaks before it can be sent again.
    /// Where it is not known that the answer is one message, for its first frame; and where not even the request may be
    /// one, a client may wait for the headers before it goes on.
    async fn peek(&self, body: &mut ResponseBody<B>) {
        if self.terms.method.is_known() {
            return body.hold().await;
        }
        let _ = timeout(PEEK_TIME, body.peek()).await;
        if self.keeper.progress().is_complete() {
            body.peek().await;
        }
    }

    /// Points a request at a backend and says how much time it has, and how often it was sent.
    fn prepare(&self, request: &mut Request<Replay<B>>, lease: &Lease) {
        address::point(request, lease.backend().address(), &self.upstream.wire);
        if self.terms.trace_attempts {
            trace::inject_from(lease.span(), request.headers_mut());
        }
        if !self.terms.grpc {
            return;
        }
        if let Some(left) = self.terms.deadline.remaining(Instant::now())
            && let Ok(left) = HeaderValue::try_from(crate::timeout::encode(left))
        {
            request.headers_mut().insert(crate::context::TIMEOUT_HEADER, left);
        }
        if let Some(attempts) = self.history.previous_attempts(self.callers_attempts) {
            request.headers_mut().insert(PREVIOUS_ATTEMPTS, HeaderValue::from(attempts));
        }
    }

    /// Waits for the first byte as long as one attempt may take for it. What cannot be sent again may take any time.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Timeout> {
        match self.upstream.pool.settings().retry.per_try_timeout {
            Some(limit) if self.terms.idempotent => {
                timeout(limit, work).await.map_err(|_| Timeout::FirstByte)
            }
            _ => Ok(work.await),
        }
    }

    /// Waits for `work` as long as the call has time and something moves.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Timeout> {
        let Some(limit) = self.terms.next_limit() else { return Ok(work.await) };
        let sleep = sleep_until(limit.into());
        tokio::pin!(work, sleep);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = &mut sleep => {}
            }
            match self.terms.over(Instant::now())? {
                Some(limit) => sleep.as_mut().reset(limit.into()),
                None => return Ok(work.await),
            }
        }
    }

    fn late(&self, timeout: Timeout) -> MeshError {
        MeshError::late(self.upstream.pool.name(), timeout)
    }
}

/// What the caller learns of the last attempt, or of the one before when that says more.
fn settled<B>(ended: Ended<B>, before: Option<Outcome<B>>) -> Outcome<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    match before {
        Some(before) if ended.verdict.code == Code::DeadlineExceeded => before,
        _ => ended.outcome,
    }
}

fn tracked<B>(
    response: Response<LinkBody<B>>,
    lease: Lease,
    link: &Arc<Link<B>>,
    pool: &Pool,
    terms: &Terms,
) -> Response<ResponseBody<B>>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let returning = Returning::new(body, Arc::clone(link));
    let tracked = Tracked::new(returning, lease, pool.budget.call(), terms.grpc, &parts);
    Response::from_parts(parts, Merged::new(tracked))
}
