//! The bytes of a response, and what they occupy until their end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    BoxError,
    link::{Held, Link, LinkBody},
};

/// A response body that gives back, when it has been read to the end, what it occupies: a stream, or a connection.
pub struct Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    incoming: Incoming,
    held: Option<(Held<B>, Arc<Link<B>>)>,
}

impl<B> Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: LinkBody<B>, link: Arc<Link<B>>) -> Self {
        Self { incoming: body.incoming, held: Some((body.held, link)) }
    }

    fn finish(&mut self) {
        if let Some((Held::Connection(sender), link)) = self.held.take() {
            link.give_back(sender);
        }
    }
}

impl<B> Drop for Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn drop(&mut self) {
        // A body that was empty, or read exactly, is never polled to its end.
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}

impl<B> Body for Returning<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.finish();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
