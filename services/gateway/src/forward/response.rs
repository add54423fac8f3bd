//! The response on its way back: streamed frame by frame, ended at the deadline, measured to its last byte.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use weft_balance::verdict::How;
use weft_mesh::{BoxError, error::MeshError, terms::Terms, upstream::ResponseBody};

use super::{Metered, answer, passage::Passage};

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

/// A backend's response body.
pub(super) struct Forwarded {
    body: ResponseBody<Metered>,
    passage: Passage,
    terms: Terms,
    alarm: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Forwarded {
    /// Begins the answer with the backend's headers.
    pub(super) fn respond(
        response: Response<ResponseBody<Metered>>,
        mut passage: Passage,
        terms: Terms,
    ) -> Response<Body> {
        passage.answered(response.status().as_u16());
        passage.note(response.body().inner().backend());
        response.map(|body| {
            let alarm = terms.next_limit().map(|limit| Box::pin(sleep_until(limit.into())));
            Body(Kind::Forwarded(Box::new(Self { body, passage, terms, alarm, over: false })))
        })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(verdict) = self.body.inner().verdict() {
            self.passage.ended(verdict);
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.passage.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(idle) = &self.terms.idle {
                    idle.touch();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(source))) => {
                let pool = self.passage.pool().to_owned();
                let backend = self.body.inner().backend().to_owned();
                self.end(MeshError::Backend { pool, backend, source })
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_alarm(cx),
        }
    }

    /// Looks whether the call's time is over, or nothing has moved for too long.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Some(alarm) = &mut self.alarm else { return Poll::Pending };
            std::task::ready!(alarm.as_mut().poll(cx));
            match self.terms.over(Instant::now()) {
                Ok(Some(limit)) => alarm.as_mut().reset(limit.into()),
                Ok(None) => self.alarm = None,
                Err(timeout) => {
                    self.body.inner_mut().cut(How::TimedOut(timeout));
                    let error = MeshError::late(self.passage.pool(), timeout);
                    return self.end(error);
                }
            }
        }
    }

    /// Ends a stream that has begun: gRPC has a status for it, HTTP only the cut.
    fn end(&mut self, error: MeshError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.over = true;
        self.alarm = None;
        self.passage.failed(&error);
        if self.passage.grpc() {
            Poll::Ready(Some(Ok(Frame::trailers(answer::trailers(error)))))
        } else {
            Poll::Ready(Some(Err(error.into())))
        }
    }
}
