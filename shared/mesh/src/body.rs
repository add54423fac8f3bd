//! A response body that keeps its call in flight until its last byte, and notes how the call ended.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use weft_balance::{InFlight, Outcome};

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

/// A body with the guard of its call. Dropping it unfinished resets the stream to the backend.
#[derive(Debug)]
pub struct Tracked<B> {
    inner: B,
    call: Option<InFlight>,
}

impl<B> Tracked<B> {
    /// The backend's address, while the call is in flight.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        self.call.as_ref().map(|call| call.backend().address())
    }
}

impl<B: Body> Tracked<B> {
    /// Tracks a body. The headers decide already when they carry a `grpc-status`.
    pub(crate) fn new(inner: B, call: InFlight, status: StatusCode, headers: &HeaderMap) -> Self {
        if let Some(outcome) = outcome(status, headers) {
            call.record(outcome);
        }
        let call = (!inner.is_end_stream()).then_some(call);
        Self { inner, call }
    }
}

/// What headers or trailers say of the backend; `None` when they do not say.
fn outcome(status: StatusCode, headers: &HeaderMap) -> Option<Outcome> {
    if status.is_server_error() {
        return Some(Outcome::Failure);
    }
    let code = headers.get("grpc-status")?.as_bytes();
    // UNKNOWN, INTERNAL, UNAVAILABLE and DATA_LOSS are the backend's; the others the caller's or nobody's.
    let failed = matches!(code, b"2" | b"13" | b"14" | b"15");
    Some(if failed { Outcome::Failure } else { Outcome::Success })
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(trailers), Some(call)) = (frame.trailers_ref(), &self.call)
                    && let Some(outcome) = outcome(StatusCode::OK, trailers)
                {
                    call.record(outcome);
                }
                if self.inner.is_end_stream() {
                    self.call = None;
                }
            }
            Poll::Ready(Some(Err(_))) => {
                if let Some(call) = self.call.take() {
                    call.record(Outcome::Failure);
                }
            }
            Poll::Ready(None) => self.call = None,
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
