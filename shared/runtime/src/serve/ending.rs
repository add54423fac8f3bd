//! Ending the calls of one connection before they end by themselves, each with a status instead of a cut.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use weft_mesh::{
    BoxError,
    error::{MeshError, status},
};

use crate::call::is_grpc;

/// What the calls of a connection are told of its end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    retired: Arc<AtomicBool>,
    over: CancellationToken,
}

impl Ends {
    /// From now on an HTTP/1.1 response says that it is the last.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Ends every call.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Answers a request with a handler's response, for as long as there is time.
    pub(super) async fn answer<T, B, F>(
        self,
        request: Request<T>,
        handle: impl FnOnce(Request<T>) -> F,
    ) -> Response<Ending<B>>
    where
        F: Future<Output = Response<B>>,
    {
        let grpc = is_grpc(request.headers());
        let http1 = request.version() < Version::HTTP_2;
        let handling = handle(request);
        let mut response = tokio::select! {
            biased;
            response = handling => response.map(|body| Ending::new(body, grpc, self.over)),
            () = self.over.cancelled() => refusal(grpc),
        };
        let is_last = response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if http1 && is_last && self.retired.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The answer to a call whose time is over before its response has begun.
fn refusal<B>(grpc: bool) -> Response<Ending<B>> {
    if grpc {
        return status(MeshError::ConnectionEnded).into_http::<()>().map(|()| Ending::nothing());
    }
    let mut response = Response::new(Ending::nothing());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// A response body that ends with UNAVAILABLE when its connection's time is over; without gRPC it is cut.
pub(super) struct Ending<B> {
    body: Option<B>,
    grpc: bool,
    over: CancellationToken,
    /// Made when the body is first waited for: most are not.
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<B> Ending<B> {
    const fn new(body: B, grpc: bool, over: CancellationToken) -> Self {
        Self { body: Some(body), grpc, over, waiting: None }
    }

    fn nothing() -> Self {
        Self { body: None, grpc: false, over: CancellationToken::new(), waiting: None }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let over = &self.over;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(over.clone().cancelled_owned()));
        waiting.as_mut().poll(cx).is_ready()
    }
}

fn trailers() -> HeaderMap {
    let (parts, ()) = status(MeshError::ConnectionEnded).into_http::<()>().into_parts();
    let mut trailers = parts.headers;
    trailers.remove(header::CONTENT_TYPE);
    trailers
}

impl<B> Body for Ending<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !self.is_over(cx) {
            return Poll::Pending;
        }
        // What produces the body is told now, not when the client has taken the last of it.
        self.body = None;
        let last =
            if self.grpc { Ok(Frame::trailers(trailers())) } else { Err(MeshError::ConnectionEnded.into()) };
        Poll::Ready(Some(last))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
