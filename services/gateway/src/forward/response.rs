//! The response on its way back: streamed frame by frame, ended at the deadline, measured to its last byte.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use weft_balance::verdict::{How, Timeout};
use weft_mesh::{BoxError, error::MeshError, terms::Terms, upstream::ResponseBody};

use super::{Metered, answer, passage::Passage, unread::Watched};
use crate::{
    openai::Observed,
    translate::{Encoded, Streamed},
};

/// A response body of the gateway: a backend's, or its own.
pub struct Body(Kind);

enum Kind {
    Own(Option<Bytes>),
    Forwarded(Watched),
    Web(Encoded),
    Streamed(Box<Streamed>),
    Observed(Box<Observed>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

type Polled = Option<Result<Frame<Bytes>, BoxError>>;

impl Body {
    /// Nothing.
    pub(crate) const fn empty() -> Self {
        Self(Kind::Own(None))
    }

    /// Some bytes.
    pub(crate) const fn full(bytes: Bytes) -> Self {
        Self(Kind::Own(Some(bytes)))
    }

    /// A backend's.
    pub(super) const fn forwarded(watched: Watched) -> Self {
        Self(Kind::Forwarded(watched))
    }

    /// One of either, in gRPC-Web.
    pub(crate) const fn web(encoded: Encoded) -> Self {
        Self(Kind::Web(encoded))
    }

    /// One of either, in the Connect protocol.
    pub(crate) fn streamed(streamed: Streamed) -> Self {
        Self(Kind::Streamed(Box::new(streamed)))
    }

    /// One of either, measured as it passes.
    pub(crate) fn observed(observed: Observed) -> Self {
        Self(Kind::Observed(Box::new(observed)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        match &mut self.0 {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Forwarded(forwarded) => forwarded.lock().poll_frame(cx),
            Kind::Web(body) => Pin::new(body).poll_frame(cx),
            Kind::Streamed(body) => Pin::new(&mut **body).poll_frame(cx),
            Kind::Observed(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Forwarded(forwarded) => forwarded.lock().is_end_stream(),
            Kind::Web(body) => body.is_end_stream(),
            Kind::Streamed(body) => body.is_end_stream(),
            Kind::Observed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Forwarded(forwarded) => forwarded.lock().size_hint(),
            Kind::Observed(body) => body.size_hint(),
            Kind::Web(_) | Kind::Streamed(_) => SizeHint::default(),
        }
    }
}

/// A backend's response body.
pub(super) struct Forwarded {
    /// `None` once it was ended from here.
    open: Option<Open>,
    /// What the client is still to be told then.
    last: Polled,
}

struct Open {
    body: ResponseBody<Metered>,
    passage: Passage,
    terms: Terms,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded").field("open", &self.open.is_some()).finish_non_exhaustive()
    }
}

impl Forwarded {
    /// Begins the answer with the backend's headers.
    pub(super) fn begin(
        response: Response<ResponseBody<Metered>>,
        mut passage: Passage,
        terms: Terms,
    ) -> Response<Self> {
        passage.answered(response.status().as_u16());
        passage.note(response.body().inner().backend());
        response.map(|body| {
            let alarm = terms.next_limit().map(|limit| Box::pin(sleep_until(limit.into())));
            Self { open: Some(Open { body, passage, terms, alarm }), last: None }
        })
    }

    /// Ends it if its time is over, because nobody asks for more of it.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(Err(timeout)) = self.open.as_ref().map(|open| open.terms.over(now)) {
            self.late(timeout);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().map_or(self.last.is_none(), |open| open.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or_else(SizeHint::default, |open| open.body.size_hint())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        let Some(open) = &mut self.open else { return Poll::Ready(self.last.take()) };
        let polled = Pin::new(&mut open.body).poll_frame(cx);
        if let Some(verdict) = open.body.inner().verdict() {
            open.passage.ended(verdict);
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                open.passage.sent += frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(idle) = &open.terms.idle {
                    idle.touch();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(source))) => {
                let pool = open.passage.pool().to_owned();
                let backend = open.body.inner().backend().to_owned();
                self.end(MeshError::Backend { pool, backend, source });
                Poll::Ready(self.last.take())
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let timeout = std::task::ready!(open.poll_alarm(cx));
                self.late(timeout);
                Poll::Ready(self.last.take())
            }
        }
    }

    fn late(&mut self, timeout: Timeout) {
        let Some(open) = &mut self.open else { return };
        open.body.inner_mut().cut(How::TimedOut(timeout));
        let error = MeshError::late(open.passage.pool(), timeout);
        self.end(error);
    }

    /// Ends a stream that has begun: gRPC has a status for it, HTTP only the cut. The backend is told by the drop.
    fn end(&mut self, error: MeshError) {
        let Some(Open { body, mut passage, .. }) = self.open.take() else { return };
        passage.failed(&error, body.inner().verdict());
        self.last = Some(if passage.grpc() {
            Ok(Frame::trailers(answer::trailers(error)))
        } else {
            Err(error.into())
        });
    }
}

impl Open {
    /// Looks whether the call's time is over, or nothing has moved for too long.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Timeout> {
        loop {
            let Some(alarm) = &mut self.alarm else { return Poll::Pending };
            std::task::ready!(alarm.as_mut().poll(cx));
            match self.terms.over(Instant::now()) {
                Ok(Some(limit)) => alarm.as_mut().reset(limit.into()),
                Ok(None) => self.alarm = None,
                Err(timeout) => return Poll::Ready(timeout),
            }
        }
    }
}
