//! Calls that become connections: WebSockets, asked for over HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441), to backends over
//! HTTP/1.1.
//!
//! Nothing else is passed on: a client that talks a backend into another protocol (`h2c`) could say anything to it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    time::{sleep_until, timeout},
};
use weft_balance::verdict::{Hints, How, Timeout};
use weft_mesh::{terms::Activity, upstream::ResponseBody};
use weft_runtime::Scope;

use super::{Body, Caller, Metered, headers, passage::Passage};
use crate::translate::Source;

const WEBSOCKET: &str = "websocket";
/// How much is on its way in either direction.
const BUFFER_BYTES: usize = 8 * 1024;
/// How long both sides may take to change their protocol once they have agreed to.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(10);

/// A client's request for a WebSocket.
pub(super) struct Asked {
    client: OnUpgrade,
    /// Over HTTP/2, where it is a CONNECT: what is asked of the backend in the client's place.
    nonce: Option<String>,
}

impl Asked {
    /// Whether a request asks for one.
    pub(super) fn of(request: &mut Request<Source>) -> Option<Self> {
        let extended = is_extended(request);
        let plain = request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && has_token(request.headers(), &header::CONNECTION, "upgrade")
            && has_token(request.headers(), &header::UPGRADE, WEBSOCKET);
        let nonce = || STANDARD.encode(fastrand::u128(..).to_be_bytes());
        (extended || plain).then(|| Self { client: hyper::upgrade::on(request), nonce: extended.then(nonce) })
    }

    /// Asks a backend for one in the client's place, in a request that is free of the client's own connection.
    pub(super) fn ask(&self, request: &mut Request<Source>) {
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        if let Some(nonce) = &self.nonce {
            // HTTP/2 needs neither; to an HTTP/1.1 server they prove that nobody else's cache answers (RFC 6455 §1.3).
            if let Ok(nonce) = HeaderValue::try_from(nonce) {
                headers.insert(header::SEC_WEBSOCKET_KEY, nonce);
            }
            let version = HeaderValue::from_static("13");
            headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(version);
            *request.method_mut() = Method::GET;
            request.extensions_mut().remove::<Protocol>();
        }
    }

    /// Whether a backend's answer is what was asked for. The proof is looked at by whoever has asked for it.
    pub(super) fn is_granted<B>(&self, response: &Response<B>) -> bool {
        let headers = response.headers();
        let proven = |nonce: &String| {
            let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
            accept.is_some_and(|accept| accept.as_bytes() == proof(nonce).as_bytes())
        };
        has_token(headers, &header::UPGRADE, WEBSOCKET) && self.nonce.as_ref().is_none_or(proven)
    }

    /// Whether a backend's answer would be taken for its consent, which it is not.
    pub(super) fn needs_other_than(&self, status: StatusCode) -> bool {
        self.nonce.is_some() && status.is_success()
    }

    /// Passes a backend's consent on, and what follows it, until either side ends it.
    pub(super) fn open(
        self,
        mut response: Response<ResponseBody<Metered>>,
        mut passage: Passage,
        idle: Option<Activity>,
        (caller, scope): (Caller, &Scope),
    ) -> Response<Body> {
        passage.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        passage.note(response.body().inner().backend());
        let backend = hyper::upgrade::on(&mut response);
        let (mut parts, body) = response.into_parts();
        let tunnel = Tunnel { body, passage, idle, scope: scope.clone(), _caller: caller };
        scope.work.spawn(tunnel.run(self.client, backend));
        headers::strip_hop_by_hop(&mut parts.headers);
        if self.nonce.is_some() {
            parts.status = StatusCode::OK;
            parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        } else {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
        Response::from_parts(parts, Body::empty())
    }
}

/// What proves that a server has read a nonce (RFC 6455 §4.2.2).
fn proof(nonce: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{nonce}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

/// Whether a CONNECT of HTTP/2 asks for a WebSocket.
pub(super) fn is_extended<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// What is open as long as the WebSocket is: the place at the backend, the call's measures, the client's place.
struct Tunnel {
    body: ResponseBody<Metered>,
    passage: Passage,
    idle: Option<Activity>,
    scope: Scope,
    _caller: Caller,
}

impl Tunnel {
    async fn run(mut self, client: OnUpgrade, backend: OnUpgrade) {
        let how = match timeout(SWITCH_TIMEOUT, async { tokio::join!(client, backend) }).await {
            Ok((Ok(client), Ok(backend))) => self.join(client, backend).await,
            Ok((Ok(_), Err(_))) => How::Broken,
            _ => How::Cancelled,
        };
        self.body.inner_mut().cut(how);
        if let Some(verdict) = self.body.inner().verdict() {
            self.passage.ended(verdict);
        }
    }

    async fn join(&mut self, client: Upgraded, backend: Upgraded) -> How<'static> {
        let received = Arc::new(AtomicU64::new(0));
        let sent = Arc::new(AtomicU64::new(0));
        let mut client = Side::new(client, &received, &self.idle);
        let mut backend = Side::new(backend, &sent, &self.idle);
        let copying = copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER_BYTES, BUFFER_BYTES);
        let ended = tokio::select! {
            biased;
            copied = copying => copied.map_err(|_| None),
            () = idle(self.idle.as_ref()) => Err(Some(How::TimedOut(Timeout::StreamIdle))),
            () = self.scope.ending.cancelled() => Err(Some(How::Cancelled)),
        };
        self.passage.received().add(received.load(Ordering::Relaxed));
        self.passage.sent = sent.load(Ordering::Relaxed);
        match ended {
            Ok(_) => How::Http { status: StatusCode::SWITCHING_PROTOCOLS.as_u16(), hints: Hints::default() },
            Err(Some(how)) => how,
            Err(None) if backend.failed => How::Broken,
            Err(None) => How::Cancelled,
        }
    }
}

/// Returns when nothing has moved for too long.
async fn idle(activity: Option<&Activity>) {
    let Some(activity) = activity else { return std::future::pending().await };
    loop {
        let limit = activity.idle_at();
        if limit <= Instant::now() {
            return;
        }
        sleep_until(limit.into()).await;
    }
}

/// One side of a tunnel: what is read of it is counted.
struct Side {
    stream: TokioIo<Upgraded>,
    read: Arc<AtomicU64>,
    idle: Option<Activity>,
    failed: bool,
}

impl Side {
    fn new(stream: Upgraded, read: &Arc<AtomicU64>, idle: &Option<Activity>) -> Self {
        Self { stream: TokioIo::new(stream), read: Arc::clone(read), idle: idle.clone(), failed: false }
    }

    fn noting<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.failed |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl AsyncRead for Side {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.read.fetch_add(read as u64, Ordering::Relaxed);
            if let Some(idle) = &self.idle {
                idle.touch();
            }
        }
        self.noting(polled)
    }
}

impl AsyncWrite for Side {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.noting(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.noting(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noting(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn a_nonce_is_proven_as_the_specification_says() {
        assert_eq!(proof("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
