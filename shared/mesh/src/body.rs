//! A response body that keeps its call in flight until its last byte, and has the verdict on how it ended.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use http_body::{Body, Frame, SizeHint};
use weft_balance::{
    retry,
    verdict::{Hints, How, Place, Verdict},
};

use crate::{lease::Lease, link::how, load_report};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Any transport error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Polls a body for a frame that carries something.
///
/// A stream often ends with an empty DATA frame of its own. Sent on as a frame before the end it says nothing, and a
/// peer on h2 ≥ 0.4.16 takes a hundred of them on a connection for a flood.
pub fn poll_full_frame<B>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
where
    B: Body<Data = Bytes>,
{
    loop {
        match std::task::ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            other => return Poll::Ready(other),
        }
    }
}

/// A body with the place of its call. Dropping it unfinished resets the stream to the backend.
#[derive(Debug)]
pub struct Tracked<B> {
    inner: B,
    open: Option<Open>,
    verdict: Option<Verdict>,
    address: String,
}

/// What is kept until the end.
#[derive(Debug)]
struct Open {
    lease: Lease,
    http_status: u16,
    grpc: bool,
    /// The call is counted in the retry budget for as long as it is in flight.
    _counted: retry::Call,
}

impl<B> Tracked<B> {
    /// The backend's address.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.address
    }

    /// How the call ended, once it has.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Ends the call from this side; its stream is reset when the body is dropped.
    pub fn cut(&mut self, how: How<'_>) {
        self.settle(how);
        self.open = None;
    }

    /// The first verdict stands; the call stays in flight until its last byte.
    fn settle(&mut self, how: How<'_>) {
        if let (None, Some(open)) = (self.verdict, &mut self.open) {
            self.verdict = Some(open.lease.settle(how));
        }
    }

    /// Settles with what the headers or trailers say.
    fn settle_by(&mut self, headers: Option<&HeaderMap>, place: Place) {
        let Some(open) = &self.open else { return };
        let http_status = open.http_status;
        let hints = headers.map(hints).unwrap_or_default();
        if !open.grpc {
            return self.settle(How::Http { status: http_status, hints });
        }
        let status = headers.and_then(|headers| headers.get(GRPC_STATUS));
        let status = status.map(|status| (status.as_bytes(), place));
        self.settle(How::Grpc { http_status, status, hints });
    }
}

fn hints(headers: &HeaderMap) -> Hints<'_> {
    Hints {
        grpc_retry_pushback_ms: headers.get(PUSHBACK).map(|value| value.as_bytes()),
        retry_after: headers.get(http::header::RETRY_AFTER).map(|value| value.as_bytes()),
    }
}

impl<B: Body> Tracked<B> {
    /// Tracks a body.
    pub(crate) fn new(
        inner: B,
        mut lease: Lease,
        counted: retry::Call,
        grpc: bool,
        parts: &http::response::Parts,
    ) -> Self {
        lease.first_byte();
        let address = lease.backend().address().to_owned();
        let http_status = parts.status.as_u16();
        let open = Some(Open { lease, http_status, grpc, _counted: counted });
        let mut body = Self { inner, open, verdict: None, address };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS && !grpc {
            // It has no end yet: another protocol begins here.
        } else if body.inner.is_end_stream() {
            body.settle_by(Some(&parts.headers), Place::TrailersOnly);
            body.open = None;
        } else if parts.headers.contains_key(GRPC_STATUS) || (!grpc && http_status >= 400) {
            body.settle_by(Some(&parts.headers), Place::Headers);
        }
        body
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(open)) = (frame.data_ref(), &mut self.open) {
                    open.lease.receives(data.len());
                }
                if let Some(trailers) = frame.trailers_mut() {
                    if let (Some(in_flight), Some(open)) = (load_report::take(trailers), &self.open) {
                        open.lease.report_load(in_flight);
                    }
                    self.settle_by(Some(trailers), Place::Trailers);
                }
                if self.inner.is_end_stream() {
                    self.settle_by(None, Place::Trailers);
                    self.open = None;
                }
            }
            Poll::Ready(Some(Err(error))) => self.cut(how(error)),
            Poll::Ready(None) => {
                self.settle_by(None, Place::Trailers);
                self.open = None;
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
