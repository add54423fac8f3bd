//! A call on its way through, measured when it is over, however that came about.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, Request, Response, header};
use http_body::Body as _;
use opentelemetry::trace::TraceContextExt as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use weft_balance::{
    retry::Why,
    verdict::{Code, How, Verdict},
};
use weft_mesh::{
    error::{Classify as _, MeshError},
    methods::Method,
    metrics::Sizes,
    terms::Course,
    upstream::ResponseBody,
};

use super::{Body, Lane, Metered, answer, host, metered::Received};
use crate::{
    access_log::{AccessLog, Line},
    gate::{Inside, Share},
    metrics::Metrics,
    route::Rule,
    translate::Dialect,
};

/// The longest text of a client that goes into a line.
const MAX_TEXT: usize = 512;

/// Places among all calls and among those of the route.
pub(super) type Admitted = (Inside, Inside, Option<Share>);

/// A call from its admission to the last byte of its response.
pub(super) struct Passage {
    metrics: Metrics,
    lane: Arc<Lane>,
    grpc: bool,
    method: Method,
    began: Instant,
    span: Span,
    whence: Option<Box<Whence>>,
    received: Received,
    /// How its attempts went.
    pub(super) course: Course,
    /// Bytes of the response's body.
    pub(super) sent: u64,
    first_byte: Option<Duration>,
    http_status: u16,
    /// How it ended; `None` when the client went away before.
    end: Option<End>,
    _inside: Admitted,
}

/// What is known of a call when it begins.
pub(super) struct Begun {
    pub(super) method: Method,
    pub(super) grpc: bool,
    pub(super) span: Span,
    pub(super) whence: Option<Box<Whence>>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With a response of a backend.
    Backend(Verdict),
    /// With an answer of the gateway's own.
    Own(u16, Option<Verdict>),
}

/// Where a call came from, for its line in the access log.
pub(super) struct Whence {
    log: AccessLog,
    line: Line,
}

impl Whence {
    pub(super) fn of<B>(log: &AccessLog, request: &Request<B>, peer: IpAddr, span: &Span) -> Box<Self> {
        let context = span.context();
        let trace = context.span().span_context().trace_id();
        let line = Line {
            time: humantime(SystemTime::now()),
            method: request.method().as_str().to_owned(),
            protocol: request.extensions().get::<Dialect>().map_or("", |dialect| dialect.label()),
            authority: cut(host(request)),
            path: cut(request.uri().path()),
            peer: peer.to_string(),
            user_agent: text(request.headers(), header::USER_AGENT.as_str()),
            request_id: text(request.headers(), "x-request-id"),
            trace_id: if trace == opentelemetry::TraceId::INVALID {
                String::new()
            } else {
                trace.to_string()
            },
            ..Line::default()
        };
        Box::new(Self { log: log.clone(), line })
    }
}

fn humantime(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.6}")).unwrap_or_default()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).map(cut).unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Writes the line of a call that was refused before it began, and passes the answer on.
pub(super) fn refused(
    whence: Option<Box<Whence>>,
    flag: &'static str,
    rule: Option<&Rule>,
    grpc: bool,
    response: Response<Body>,
) -> Response<Body> {
    if let Some(whence) = whence {
        let Whence { log, mut line } = *whence;
        set_protocol(&mut line, grpc);
        line.status = response.status().as_u16();
        let status = response.headers().get("grpc-status");
        line.grpc_status = status.and_then(|status| status.to_str().ok()?.parse().ok());
        flag.clone_into(&mut line.flags);
        line.pool = rule.map(|rule| rule.pool.clone()).unwrap_or_default();
        log.write(line);
    }
    response
}

/// What the client spoke, unless that is known already: a call that was translated is one of gRPC by now.
const fn set_protocol(line: &mut Line, grpc: bool) {
    if line.protocol.is_empty() {
        line.protocol = if grpc { "grpc" } else { "http" };
    }
}

impl Passage {
    pub(super) fn begin(metrics: Metrics, lane: &Arc<Lane>, inside: Admitted, begun: Begun) -> Self {
        let Begun { method, grpc, span, whence } = begun;
        metrics.totals.calls.fetch_add(1, Ordering::Relaxed);
        if grpc {
            metrics.served.begun(method);
        }
        Self {
            metrics,
            lane: Arc::clone(lane),
            grpc,
            method,
            began: Instant::now(),
            span,
            whence,
            received: Received::default(),
            course: Course::default(),
            sent: 0,
            first_byte: None,
            http_status: 200,
            end: None,
            _inside: inside,
        }
    }

    pub(super) const fn grpc(&self) -> bool {
        self.grpc
    }

    pub(super) const fn method(&self) -> Method {
        self.method
    }

    /// Counts its request's body.
    pub(super) fn received(&self) -> Received {
        self.received.clone()
    }

    pub(super) fn pool(&self) -> &str {
        &self.lane.rule.pool
    }

    /// What keeps it with others like it.
    pub(super) fn keyed(&mut self, key: Option<u64>) {
        if let Some(whence) = &mut self.whence {
            whence.line.key = key.map(|key| format!("{key:016x}"));
        }
    }

    /// It goes where another lane of its route leads.
    pub(super) fn goes_by(&mut self, lane: &Arc<Lane>) {
        self.lane = Arc::clone(lane);
    }

    /// When it began.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// The headers of a backend's response are here.
    pub(super) fn answered(&mut self, http_status: u16) {
        self.first_byte = Some(self.began.elapsed());
        self.http_status = http_status;
    }

    /// Which backend answered, for the trace.
    pub(super) fn note(&self, backend: &str) {
        self.span.record("server.address", backend);
    }

    /// A backend's response ended so.
    pub(super) fn ended(&mut self, verdict: Verdict) {
        self.end.get_or_insert(End::Backend(verdict));
    }

    /// The gateway ends it with an error; `verdict` is the one on the attempt that was under way, if there was one.
    pub(super) fn failed(&mut self, error: &MeshError, verdict: Option<Verdict>) {
        let code = error.kind().code() as i32;
        let code = u16::try_from(code).unwrap_or_default();
        // A response that was broken off has said by itself how it ended; here it is known why.
        self.end = Some(End::Own(code, verdict));
    }

    /// A backend answered as nobody had asked it to.
    pub(super) fn betrayed(
        mut self,
        response: Response<ResponseBody<Metered>>,
        why: &'static str,
    ) -> Response<Body> {
        let mut body = response.into_body();
        body.inner_mut().cut(How::ProtocolError);
        self.course.verdict = body.inner().verdict();
        let (pool, backend) = (self.pool().to_owned(), body.inner().backend().to_owned());
        self.refuse(MeshError::Backend { pool, backend, source: why.into() })
    }

    /// Answers with an error of the gateway's own.
    pub(super) fn refuse(mut self, error: MeshError) -> Response<Body> {
        let verdict = self.course.verdict;
        self.failed(&error, verdict);
        let response = answer::refuse(error, self.grpc);
        self.http_status = response.status().as_u16();
        response
    }

    /// Answers with what the gateway itself knows.
    pub(super) fn answer(mut self, code: Code, response: Response<Body>) -> Response<Body> {
        self.end = Some(End::Own(code as u16, None));
        self.http_status = response.status().as_u16();
        self.sent = response.body().size_hint().exact().unwrap_or_default();
        response
    }

    fn code(&self) -> Code {
        match self.end {
            Some(End::Backend(verdict)) => verdict.code,
            Some(End::Own(code, _)) => Code::ALL.get(usize::from(code)).copied().unwrap_or(Code::Unknown),
            None => Code::Cancelled,
        }
    }

    /// Envoy's flags of how it ended, and whether there would have been another attempt but for a limit.
    fn flags(&self) -> String {
        let verdict = match self.end {
            Some(End::Backend(verdict)) => Some(verdict),
            Some(End::Own(code, None)) if code == Code::Unavailable as u16 => return "UH".to_owned(),
            Some(End::Own(code, None)) if code == Code::ResourceExhausted as u16 => return "UO".to_owned(),
            Some(End::Own(_, verdict)) => verdict,
            None => return "DC".to_owned(),
        };
        let flag = verdict.and_then(|verdict| verdict.flag()).map(|flag| flag.as_str());
        let limited = matches!(self.course.stopped, Some(Why::Attempts | Why::Budget));
        let flags: Vec<_> = flag.into_iter().chain(limited.then_some("URX")).collect();
        if flags.is_empty() { "-".to_owned() } else { flags.join(",") }
    }

    fn write_line(&mut self, whence: Whence) {
        let Whence { log, mut line } = whence;
        set_protocol(&mut line, self.grpc);
        line.status = self.http_status;
        line.grpc_status = self.grpc.then(|| self.code() as u16);
        line.flags = self.flags();
        line.bytes_received = self.received.bytes();
        line.bytes_sent = self.sent;
        line.duration_ms = millis(self.began.elapsed());
        line.first_byte_ms = self.first_byte.map(millis);
        line.queue_ms = millis(self.course.queued);
        line.attempts = self.course.attempts;
        self.lane.rule.pool.clone_into(&mut line.pool);
        line.backend =
            self.course.backend.as_ref().map(|backend| backend.address().to_owned()).unwrap_or_default();
        log.write(line);
    }
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

impl Drop for Passage {
    fn drop(&mut self) {
        let code = self.code();
        if self.grpc {
            self.span.record("rpc.response.status_code", code.as_str());
        } else {
            self.span.record("http.response.status_code", self.http_status);
        }
        self.span.record("weft.attempts", self.course.attempts);
        let took = self.began.elapsed();
        self.metrics.ended(&self.lane, code, took);
        if self.grpc {
            let sizes = Sizes { sent: self.sent, received: self.received.bytes() };
            self.metrics.served.ended(self.method, code, took, sizes);
        }
        if let Some(whence) = self.whence.take() {
            self.write_line(*whence);
        }
    }
}
