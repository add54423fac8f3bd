//! The response on its way back: streamed frame by frame, ended at the deadline, measured to its last byte.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use opentelemetry::KeyValue;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep_until},
};
use tonic::Code;
use tracing::Span;
use weft_mesh::{BoxError, error::MeshError, poll_full_frame, pool::ResponseBody};

use super::answer;
use crate::metrics::Metrics;

/// A response body of the gateway: a backend's, or its own.
pub struct Body(Kind);

enum Kind {
    Own(Option<Bytes>),
    Forwarded(Box<Forwarded>),
}

impl Body {
    /// Nothing.
    pub(super) const fn empty() -> Self {
        Self(Kind::Own(None))
    }

    /// Some bytes.
    pub(super) const fn full(bytes: Bytes) -> Self {
        Self(Kind::Own(Some(bytes)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Forwarded(forwarded) => forwarded.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Forwarded(forwarded) => forwarded.over || forwarded.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Forwarded(forwarded) => forwarded.body.size_hint(),
        }
    }
}

/// A call being measured. Measures when it is dropped, however the call ended.
pub(super) struct Ended {
    metrics: Metrics,
    pool: KeyValue,
    grpc: bool,
    began: Instant,
    status: Option<&'static str>,
    span: Span,
    _permit: OwnedSemaphorePermit,
}

impl Ended {
    pub(super) fn begin(
        metrics: &Metrics,
        pool: &str,
        grpc: bool,
        began: Instant,
        permit: OwnedSemaphorePermit,
        span: Span,
    ) -> Self {
        metrics.totals.calls.fetch_add(1, Ordering::Relaxed);
        metrics.totals.in_flight.fetch_add(1, Ordering::Relaxed);
        let pool = KeyValue::new("pool", pool.to_owned());
        Self { metrics: metrics.clone(), pool, grpc, began, status: None, span, _permit: permit }
    }

    /// The gateway ended it without an answer of the backend.
    pub(super) fn refused(mut self, error: &MeshError) {
        self.status = Some(match error {
            MeshError::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            _ => "UNAVAILABLE",
        });
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.status = Some(outcome(Code::from_bytes(code.as_bytes())));
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.metrics.totals.in_flight.fetch_sub(1, Ordering::Relaxed);
        let status = self.status.unwrap_or(if self.grpc { "CANCELLED" } else { "OK" });
        self.span.record("rpc.response.status_code", status);
        self.metrics.ended(&[self.pool.clone(), KeyValue::new("status", status)], self.began);
    }
}

/// Codes as labels: those an operator tells apart at the gateway.
const fn outcome(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Unknown | Code::Internal | Code::DataLoss => "INTERNAL",
        _ => "CLIENT_ERROR",
    }
}

/// A backend's response body.
pub(super) struct Forwarded {
    body: ResponseBody<Incoming>,
    ended: Ended,
    alarm: Pin<Box<Sleep>>,
    over: bool,
}

impl Forwarded {
    /// Begins the answer with the backend's headers.
    pub(super) fn respond(
        response: Response<ResponseBody<Incoming>>,
        mut ended: Ended,
        grpc: bool,
        deadline: Instant,
    ) -> Response<Body> {
        if grpc {
            ended.note(response.headers());
        } else {
            ended.status = Some(if response.status().is_server_error() { "INTERNAL" } else { "OK" });
        }
        if let Some(backend) = response.body().backend() {
            ended.span.record("server.address", backend);
        }
        response.map(|body| {
            let alarm = Box::pin(sleep_until(deadline.into()));
            Body(Kind::Forwarded(Box::new(Self { body, ended, alarm, over: false })))
        })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match poll_full_frame(Pin::new(&mut self.body), cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ended.note(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended.status = Some("UNAVAILABLE");
                let pool = self.ended.pool.value.as_str().into_owned();
                let backend = self.body.backend().unwrap_or("its backend").to_owned();
                self.end(MeshError::Backend { pool, backend, source: error.into() })
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.alarm.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.ended.status = Some("DEADLINE_EXCEEDED");
                    let pool = self.ended.pool.value.as_str().into_owned();
                    self.end(MeshError::DeadlineExceeded { pool })
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// Ends a stream that has begun: gRPC has a status for it, HTTP only the cut.
    fn end(&mut self, error: MeshError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.over = true;
        if self.ended.grpc {
            Poll::Ready(Some(Ok(Frame::trailers(answer::trailers(error)))))
        } else {
            Poll::Ready(Some(Err(error.into())))
        }
    }
}
